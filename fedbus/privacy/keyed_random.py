"""Random numbers that can't be predicted without the key, and that the same key gives again.

PyTorch's generator on the CPU has 32 bits of seed: anyone who guesses the noise can try them all. Opacus's own remedy
(`secure_mode`) needs torchcsprng, which does not exist for current versions of PyTorch. Here the bits are a stream of
AES-256 in counter mode.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

CHUNK = 1 << 20
"""Numbers that are drawn at once, so that the noise for a large array needs little memory."""


class KeyedRandom:
    """A stream of random numbers; equal keys give equal streams."""

    def __init__(self, key: bytes) -> None:
        """Start the stream of a key of 32 bytes, which must not be used for anything else."""
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes  # a trainer may lack it

        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    def uniform(self, count: int) -> NDArray[np.float64]:
        """Draw numbers between 0 and 1, float64 [count]: odd multiples of 2^-54, so neither 0 nor 1."""
        bits = np.frombuffer(self._stream.update(bytes(8 * count)), dtype="<u8")
        return np.asarray(((bits >> np.uint64(11)) + 0.5) * 2.0**-53)

    def normal(self, shape: torch.Size) -> Tensor:
        """Draw standard normal numbers, float32, by the method of Box and Muller (1958) in float64.

        The largest is 8.6. That a true normal number is larger has a probability of 5e-18; for a ResNet-50 and a
        thousand steps, this adds 1e-7 to delta.
        """
        count = shape.numel()
        found = np.empty(count + count % 2, dtype=np.float32)
        for start in range(0, len(found), CHUNK):
            part = found[start : start + CHUNK]
            first, second = self.uniform(len(part)).reshape(2, -1)
            radius, angle = np.sqrt(-2 * np.log(first)), 2 * np.pi * second
            part[0::2], part[1::2] = radius * np.cos(angle), radius * np.sin(angle)
        return torch.from_numpy(found[:count]).reshape(shape)
