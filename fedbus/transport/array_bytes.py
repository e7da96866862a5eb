"""The sizes of arrays in a message, checked before they are decoded: a header of 100 bytes can state a terabyte."""

import io
import math
from collections.abc import Mapping

from numpy.lib import format as npy

from fedbus.errors import RunError
from fedbus.transport.packing import Layout, number_of_values

ARRAY_OVERHEAD = 1 << 10
"""Bytes that describe an array: its name, shape and type."""


def most_bytes(layout: Layout) -> int:
    """Return the largest size of a model's arrays in a message, packed in any way."""
    return 4 * number_of_values(layout) + ARRAY_OVERHEAD * (len(layout) + 1)


def check_array_bytes(arrays: Mapping[str, bytes], layout: Layout) -> None:
    """Check the number and the sizes of arrays in NumPy's format, from their headers.

    Args:
        arrays: The bytes by name.
        layout: The shapes of the model.

    Raises:
        RunError: If they are larger than the model, or a header does not match what follows it.
        Exception: If an array is damaged.
    """
    if len(arrays) > len(layout) + 1 or sum(map(len, arrays.values())) > most_bytes(layout):
        raise RunError("Its arrays are larger than the model.", "Run the same version of FedBUS everywhere.")
    for data in arrays.values():
        stream = io.BytesIO(data)
        version = npy.read_magic(stream)
        read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, _, dtype = read_header(stream)
        if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
            raise RunError("An array's size is not what its header says.", "Run the same version of FedBUS everywhere.")
