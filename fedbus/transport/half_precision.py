"""Half precision between hub and sites that loses nothing of what it rounds off (`payload=flat-fp16`).

The hub sends its model rounded and keeps it in full. A site sends back by how much training has changed the model that
it received, and the hub adds this difference to its own model. So what was rounded off for one round is part of what
the hub sends in the next. This is the error feedback of Seide et al., "1-Bit Stochastic Gradient Descent", Interspeech
2014, and Karimireddy et al., "Error Feedback Fixes SignSGD", ICML 2019; no further state is needed for it.

A difference is small, so rounding it loses far less than rounding a weight would: a weight that changes by less than a
4096th in a round would not move at all. BatchNorm's running statistics are sent themselves, because a variance that
falls to almost 0 could become negative by a rounded difference.
"""

from torch import Tensor

from fedbus.models.batch_norm import MEAN, VARIANCE
from fedbus.models.state import State

HALF = "flat-fp16"
"""The payload."""

SCALE = 1024.0
"""Factor of a difference. Half precision has 11 significant bits between 6e-5 and 65504, but the last rounds of a
training change weights by less. A value that changes by 64 or more in a round becomes infinite, and is refused."""


def as_received(state: State, payload: str) -> State:
    """Return a model as the sites receive it."""
    return {name: _rounded(value) for name, value in state.items()} if payload == HALF else state


def to_differences(update: State, received: State) -> State:
    """Return what a site sends of its update, before it is rounded.

    Args:
        update: The model after training.
        received: The model before it, as the site received it.
    """
    return {name: value if _is_statistic(name) else (value - received[name]) * SCALE for name, value in update.items()}


def add_differences(before: State, differences: State) -> State:
    """Return a site's update at the hub: its differences added to the model that the hub has in full."""
    return {name: value if _is_statistic(name) else before[name] + value / SCALE for name, value in differences.items()}


def rebase(update: State, received: State, before: State, payload: str) -> State:
    """Return an update of the received model as one of the model that the hub has in full."""
    return add_differences(before, to_differences(update, received)) if payload == HALF else update


def as_read(update: State, received: State, before: State, payload: str) -> State:
    """Return an update as the hub reads it from a message, for a federation without messages."""
    if payload != HALF:
        return update
    return add_differences(before, as_received(to_differences(update, received), payload))


def _is_statistic(name: str) -> bool:
    return name.endswith((MEAN, VARIANCE))


def _rounded(value: Tensor) -> Tensor:
    return value.half().float()
