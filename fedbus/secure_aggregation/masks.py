"""Masks: streams of AES-256-CTR that are added to a site's vectors and, but for the sum, can't be told from noise."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedbus.errors import RunError

KEY_BYTES = 32

BLOCK_BYTES = 1 << 17
"""Bytes of a stream that are computed at a time: a block stays in the processor's cache while all masks are added."""

Mask = tuple[bytes, int]
"""Key of a stream, and 1 to add it or -1 to subtract it."""


def derive_key(secret: bytes, *context: bytes) -> bytes:
    """Derive a key of 32 bytes from a secret; other contexts give keys that are independent of it."""
    info = b"".join(len(part).to_bytes(4, "big") + part for part in (b"fedbus secure aggregation", *context))
    return HKDF(hashes.SHA256(), KEY_BYTES, None, info).derive(secret)


def agree(private_key: bytes, public_key: bytes, name: str) -> bytes:
    """Return the secret that two sites share, by X25519.

    Args:
        private_key: The key of one site.
        public_key: The key of the other site.
        name: The other site, for errors.

    Raises:
        RunError: If the public key is one of the few with which every secret is 0.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private_key).exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise RunError(
            f"{name} sent a key with which nothing can be encrypted.",
            f"Leave {name} out, and ask its data manager which version of FedBUS it runs.",
        ) from error


def add_masks(vector: NDArray[Any], masks: Iterable[Mask], name: bytes) -> None:
    """Add streams to a vector of uint32 or uint64, in place.

    Args:
        vector: The vector; one-dimensional, contiguous.
        masks: The keys and signs of the streams.
        name: The name of the vector: streams of the same keys for other vectors are independent of these.
    """
    streams = [(_stream(derive_key(key, b"stream", name)), sign) for key, sign in masks]
    number = BLOCK_BYTES // vector.itemsize
    zeros, buffer = bytes(BLOCK_BYTES), bytearray(BLOCK_BYTES + KEY_BYTES)
    noise = np.frombuffer(buffer, dtype=vector.dtype.newbyteorder("<"), count=number)
    for start in range(0, vector.size, number):
        block = vector[start : start + number]
        for stream, sign in streams:
            stream.update_into(zeros, buffer)
            (np.add if sign > 0 else np.subtract)(block, noise[: block.size], out=block)


def pair_mask(secret: bytes, terms: bytes, name: str, other: str) -> Mask:
    """Return the mask of a site with another one: what the smaller name adds, the larger one subtracts.

    Args:
        secret: From `agree`, by the mask keys of the two.
        terms: The digest of the session's terms.
        name: The site whose vector is masked.
        other: The other site.
    """
    first, second = sorted((name, other))
    return derive_key(secret, b"pair", terms, first.encode(), second.encode()), 1 if name == first else -1


def self_mask(seed: bytes, terms: bytes, name: str) -> Mask:
    """Return the mask of a site with itself: it protects a vector that arrives late (Bonawitz, section 4.0.2)."""
    return derive_key(seed, b"self", terms, name.encode()), 1


def negated(masks: Sequence[Mask]) -> list[Mask]:
    """Return the masks that undo these."""
    return [(key, -sign) for key, sign in masks]


def _stream(key: bytes) -> Any:
    """Return a cipher whose output for zeros is the stream; the key is used once, so the counter starts at 0."""
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
