"""Why an update can't be averaged: at the hub, or at the site where the hub sees only the sum of updates."""

import math

import torch

from fedbus.models.state import State


def check_update(update: State, before: State, limit: float) -> str | None:
    """Return why a site's update must be refused, or None if it can be averaged.

    Args:
        update: The model that came back.
        before: The model that was sent.
        limit: The largest allowed ||update - before|| as a multiple of ||before||.
    """
    if update.keys() != before.keys():
        return "its arrays have other names"
    for key, value in update.items():
        if value.shape != before[key].shape:
            return f"{key} has shape {tuple(value.shape)}, not {tuple(before[key].shape)}"
        if key.endswith("running_var") and (value < 0).any():
            return f"{key} contains negative variances"
    steps = {key: _norm(value - before[key]) for key, value in update.items()}
    for key, step in steps.items():
        if not math.isfinite(step):
            return f"{key} contains values that are not finite"
    moved, size = math.hypot(*steps.values()), math.hypot(*(_norm(value) for value in before.values()))
    if moved > limit * size:
        times = moved / size if size else math.inf
        return f"it moves the model by {times:.0f} times the model's norm; {limit:g} times is allowed"
    return None


def _norm(values: torch.Tensor) -> float:
    """Return the norm; in double precision, four times as slow, only if single precision overflows.

    In double precision it is finite if and only if all float32 values are.
    """
    norm = float(torch.linalg.vector_norm(values))
    return norm if math.isfinite(norm) else float(torch.linalg.vector_norm(values, dtype=torch.float64))
