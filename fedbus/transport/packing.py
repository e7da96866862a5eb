"""How a model is packed for the wire: one array for each parameter, or all values in one.

Flower handles every array of a message as objects of its own, several for each, so a model of 251 parameters travels
as some 500; in one array it is as many as its size in chunks. Strategies never see this: below them, what they send is
packed and what comes back is unpacked.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.models.state import State

Layout = dict[str, tuple[int, ...]]
"""Shapes by name: what both ends know of the model, so that it need not travel."""

FLAT = "flat"
"""Name of the only array of a flat message."""


def layout_of(state: State) -> Layout:
    """The names and shapes of a state."""
    return {key: tuple(state[key].shape) for key in sorted(state)}


def pack(state: State, payload: str) -> dict[str, NDArray[Any]]:
    """Pack a state for the wire.

    Args:
        state: float32 tensors by name.
        payload: `dict`: one float32 array a tensor, sorted by name, because some strategies remember arrays by their
            position; `flat`: all values in that order in one float32 array; `flat-fp16`: the same in half precision,
            rounded to 11 significant bits, and infinite beyond 65504.
    """
    arrays = {key: state[key].numpy() for key in sorted(state)}
    if payload == "dict":
        return dict(arrays)
    flat = np.concatenate([value.ravel() for value in arrays.values()])
    if payload == "flat":
        return {FLAT: flat}
    with np.errstate(over="ignore"):  # infinities are refused, by name, where they arrive
        return {FLAT: flat.astype(np.float16)}


def unpack(arrays: Mapping[str, NDArray[Any]], payload: str, layout: Layout) -> State:
    """Undo `pack`; values are float32 again, whatever they travelled as, and share memory where they can.

    `dict` arrays come as they are: which names and shapes are wrong, the check of the update says better.

    Raises:
        RunError: the message is not packed this way, or holds another number of values than the model.
    """
    if payload == "dict":
        return {key: _tensor(value) for key, value in arrays.items()}
    kind = np.float32 if payload == "flat" else np.float16
    values, expected = arrays.get(FLAT), sum(math.prod(shape) for shape in layout.values())
    if len(arrays) != 1 or values is None or values.dtype != kind or values.ndim != 1:
        raise RunError(f"The arrays are not packed as {payload}.", "Run the same version of FedBUS everywhere.")
    if values.size != expected:
        raise RunError(f"The model has {values.size} values, not {expected}.", "Train the model that was sent.")
    state, start = {}, 0
    for key, shape in layout.items():
        stop = start + math.prod(shape)
        state[key] = _tensor(values[start:stop]).reshape(shape)
        start = stop
    return state


def _tensor(values: NDArray[Any]) -> torch.Tensor:
    """Values as float32, without a copy where they are that and may be changed."""
    return torch.from_numpy(np.require(values, np.float32, ["W"]))
