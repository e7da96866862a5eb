"""How the arrays of a model are packed for a message: one array per parameter, or all values in one.

Flower sends every array as several objects, so that a model of 251 parameters takes about 500. Packed into one array
it takes as many as its size in chunks. Strategies are not affected: what they read has been unpacked.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.transport.half_precision import HALF

Layout = dict[str, tuple[int, ...]]
"""Shapes by name. Hub and sites both know those of the model, so they are not sent."""

FLAT = "flat"
"""Name of the only array of a flat message."""


def layout_of(state: State) -> Layout:
    """Return the names and shapes of a state."""
    return {key: tuple(state[key].shape) for key in sorted(state)}


def number_of_values(layout: Layout) -> int:
    """Return how many values a model of this layout has."""
    return sum(math.prod(shape) for shape in layout.values())


def pack(state: State, payload: str) -> dict[str, NDArray[Any]]:
    """Pack a state for a message.

    Args:
        state: float32 tensors by name.
        payload: `dict`: one float32 array per tensor, sorted by name, because some strategies identify arrays by their
            position. `flat`: all values in that order in one float32 array. `flat-fp16`: the same in half precision,
            rounded to 11 significant bits and infinite above 65504; see `fedbus.transport.half_precision`.
    """
    arrays = {key: state[key].numpy() for key in sorted(state)}
    if payload == "dict":
        return dict(arrays)
    flat = np.concatenate([value.ravel() for value in arrays.values()])
    if payload != HALF:
        return {FLAT: flat}
    with np.errstate(over="ignore"):  # the receiver refuses infinite values and names their array
        return {FLAT: flat.astype(np.float16)}


def unpack(arrays: Mapping[str, NDArray[Any]], payload: str, layout: Layout) -> State:
    """Undo `pack`.

    The values are float32 again, whatever the payload, and share memory with the arrays where possible. The names and
    shapes of `dict` arrays are not checked here: the check of the update gives a better reason.

    Raises:
        RunError: If the arrays are not packed this way, or have another number of values than the model.
    """
    if payload == "dict":
        return {key: _as_tensor(value) for key, value in arrays.items()}
    dtype = np.float16 if payload == HALF else np.float32
    values, expected = arrays.get(FLAT), number_of_values(layout)
    if len(arrays) != 1 or values is None or values.dtype != dtype or values.ndim != 1:
        raise RunError(f"The arrays are not packed as {payload}.", "Run the same version of FedBUS everywhere.")
    if values.size != expected:
        raise RunError(
            f"The model has {values.size} values, not {expected}.", "Run the same version of FedBUS everywhere."
        )
    state, start = {}, 0
    for key, shape in layout.items():
        stop = start + math.prod(shape)
        state[key] = _as_tensor(values[start:stop]).reshape(shape)
        start = stop
    return state


def _as_tensor(values: NDArray[Any]) -> torch.Tensor:
    """Return values as a float32 tensor, copied only if they have another type or are read-only."""
    return torch.from_numpy(np.require(values, np.float32, ["W"]))
