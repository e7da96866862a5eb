"""Start weights in a small file: matrices and filters in bfloat16, with the exponents compressed; a third of float32.

Training in bfloat16 rounds them to bfloat16 before every product anyway. Signs and mantissas look random and can't be
compressed; few exponents occur, and about 2.7 bits encode one. BatchNorm's vectors stay in float32: they are small, and
training doesn't round them.
"""

import json
import zlib
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.system.files import write_whole

EXPONENTS, REST, SHAPES = "exponents", "signs-and-mantissas", "shapes"
"""Names of the two parts of all matrices and filters in the file, and of their shapes in its metadata."""


def save_weights(state: State, path: Path) -> None:
    """Write the file.

    Raises:
        RunError: If it can't be written.
    """
    large = {name: value for name, value in state.items() if value.ndim > 1}
    bits = torch.cat([value.bfloat16().flatten() for value in large.values()]).view(torch.int16).numpy().view(np.uint16)
    turned = (bits << 1) | (bits >> 15)  # the exponent's eight bits become one byte
    tensors: dict[str, Tensor] = {name: value for name, value in state.items() if name not in large}
    tensors[EXPONENTS] = torch.frombuffer(bytearray(_compress((turned >> 8).astype(np.uint8))), dtype=torch.uint8)
    tensors[REST] = torch.from_numpy(turned.astype(np.uint8))  # keeps the lower byte
    shapes = json.dumps({name: list(value.shape) for name, value in large.items()})
    write_whole(path, lambda temporary: save_file(tensors, temporary, {SHAPES: shapes}))


def load_weights(path: Path) -> State:
    """Read what `save_weights` wrote; matrices and filters in bfloat16.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            shapes = json.loads(file.metadata()[SHAPES])
            state: State = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        exponents = np.frombuffer(zlib.decompress(state.pop(EXPONENTS).numpy().tobytes()), dtype=np.uint8)
        turned = (exponents.astype(np.uint16) << 8) | state.pop(REST).numpy()
        bits = torch.from_numpy(((turned >> 1) | (turned << 15)).view(np.int16)).view(torch.bfloat16)
        parts = torch.split(bits, [int(np.prod(shape)) for shape in shapes.values()])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RuntimeError, zlib.error) as error:
        raise RunError(f"{path} has no packed weights ({error}).", "Copy it again, or pack it again.") from error
    return state | {name: part.view(shapes[name]) for name, part in zip(shapes, parts, strict=True)}


def _compress(exponents: "np.ndarray[tuple[int], np.dtype[np.uint8]]") -> bytes:
    """Compress with Huffman codes only: exponents repeat no sequences, and a search for them makes the file larger."""
    packer = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    return packer.compress(exponents.tobytes()) + packer.flush()
