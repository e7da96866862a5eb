"""What the settings change in the model that a strategy has averaged: BatchNorm, and the classifier by class."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import torch

from fedbus.models.batch_norm import MEAN, VARIANCE, pool_statistics, still_names
from fedbus.models.state import State
from server.rounds.classifier import average_by_class

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

SERVER_OPTIMISERS = ("fedavgm", "fedadam", "fedyogi", "fedadagrad", "qfedavg")
"""Arms with an optimiser step at the server. A step can overshoot, and a running variance below zero breaks the model,
so these arms take BatchNorm's running statistics from a plain average."""


def apply_policies(
    state: State,
    before: State,
    updates: Mapping[str, State],
    weights: Mapping[str, float],
    settings: "Settings",
    *,
    arm: str,
    classes: Mapping[str, Collection[int]],
    classifier: Collection[str],
) -> State:
    """Return the shared model of a round.

    Args:
        state: The strategy's model.
        before: The model that was sent to the sites.
        updates: The models that came back, by site.
        weights: The weights of the sites, above 0.
        settings: Settings of the comparison.
        arm: The strategy's name.
        classes: The classes of each site, as positions in `CLASSES`.
        classifier: Names of the classifier's arrays, to average them by class; empty: they are averaged as all others.
    """
    if settings.batch_norm == "pooled":
        state = state | pool_statistics(list(updates.values()), list(weights.values()))
    elif still := still_names(settings.batch_norm, before):
        # The sites return these arrays unchanged, but a weighted mean of equal values may round.
        state = state | {name: before[name] for name in still}
    elif arm in SERVER_OPTIMISERS:
        state = state | average_statistics(list(updates.values()), list(weights.values()))
    if classifier:
        state = state | average_by_class(classifier, before, updates, weights, classes)
    return state


def average_statistics(updates: list[State], weights: list[float]) -> State:
    """Return the weighted mean of BatchNorm's running statistics."""
    names = [key for key in updates[0] if key.endswith((MEAN, VARIANCE))]
    shares = [weight / sum(weights) for weight in weights]
    return {key: torch.stack([u[key] * s for u, s in zip(updates, shares, strict=True)]).sum(0) for key in names}
