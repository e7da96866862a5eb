"""What the hub of a federation without messages makes of a round: from the updates, or only from their sum."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from fedbus.evaluation.kept import keep_best, keep_if_best
from fedbus.evaluation.validation import Score, record, total
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder, Checkpoint
from fedbus.secure_aggregation.numbers import decode_numbers, encode_numbers
from fedbus.settings.privacy_rules import SECURE
from fedbus.training.federation import add_steps
from fedbus.transport.half_precision import as_read, rebase
from fedbus.transport.summed_score import SCORE, TotalScore, numbers_of_score, read_score
from fedbus.transport.summed_update import Trained, UpdateSum, add

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

Scores = Mapping[str, Score] | TotalScore
"""The scores of a model: by site, or their sum."""


@dataclass(frozen=True)
class Combined:
    """A round as the hub sees it.

    Attributes:
        state: The mean of the updates.
        updates: The updates by site; under secure aggregation only their mean.
        weights: The weights of these.
        scores: The scores of the model that was sent.
        loss: The mean training loss.
        steps: The optimiser steps of all sites together.
    """

    state: State
    updates: Mapping[str, State]
    weights: Mapping[str, float]
    scores: Scores
    loss: float
    steps: int


def combine(
    before: State, received: State, sites: Mapping[str, Trained], weights: Mapping[str, float], settings: "Settings"
) -> Combined:
    """Combine what the sites have trained.

    Args:
        before: The model that was sent, in full precision.
        received: The same as the sites received it.
        sites: What each site has trained.
        weights: The weights of the sites, above 0.
        settings: The settings.

    Raises:
        RunError: If a value does not fit into a secure sum.
    """
    if settings.privacy == SECURE:
        return _combine_sum(before, received, sites, weights, settings)
    updates = {name: as_read(site.state, received, before, settings.payload) for name, site in sites.items()}
    return Combined(
        weighted_mean(updates, weights),
        updates,
        weights,
        {name: site.score for name, site in sites.items()},
        sum(site.loss * weights[name] for name, site in sites.items()) / sum(weights.values()),
        add_steps((site.steps for site in sites.values()), settings.batches),
    )


def _combine_sum(
    before: State, received: State, sites: Mapping[str, Trained], weights: Mapping[str, float], settings: "Settings"
) -> Combined:
    """Add up what the sites would mask: without masks the sum has the same bits."""
    summed, whole = UpdateSum(received, settings.batch_norm, settings.update_range), sum(weights.values())
    parts = []
    for name, site in sites.items():
        share = weights[name] / whole
        parts.append(summed.encode(site, share, summed.numbers(site, share)))
    mean, numbers = summed.decode(add(parts), len(sites), settings.batches)
    scores = read_score(numbers, list(sites), _rows(site.score for site in sites.values()))
    state = rebase(mean.state, received, before, settings.payload)
    return Combined(state, {"mean": state}, {"mean": 1.0}, scores, mean.loss, mean.steps)


def as_reported(scores: Mapping[str, Score], settings: "Settings") -> Scores:
    """Return the scores as the hub sees them."""
    if settings.privacy != SECURE:
        return scores
    parts = [encode_numbers(numbers_of_score(score), SCORE) for score in scores.values()]
    numbers = decode_numbers(np.sum(parts, axis=0, dtype=np.uint64), SCORE)
    return read_score(numbers, list(scores), _rows(scores.values()))


def describe(scores: Scores) -> dict[str, Any]:
    """Make the entries of a history line."""
    return scores.record() if isinstance(scores, TotalScore) else record(scores)


def keep_best_of(checkpoint: Checkpoint, scores: Scores, folder: ArmFolder) -> None:
    """Save the model of the checkpoint's round if its validation loss is the lowest so far."""
    if isinstance(scores, TotalScore):
        keep_if_best(checkpoint, scores.loss, folder)
    else:
        keep_best(checkpoint, scores.values(), folder)


def weighted_mean(updates: Mapping[str, State], weights: Mapping[str, float]) -> State:
    """Average the updates of the sites, in the order of operations of Flower's FedAvg: so the bits are equal."""
    whole, mean = sum(weights.values()), dict[str, Any]()
    for name, update in updates.items():
        share = weights[name] / whole
        for key, value in update.items():
            if key in mean:
                mean[key] += value.numpy() * share
            else:
                mean[key] = value.numpy() * share
    return {
        key: torch.from_numpy(value.reshape(updates[next(iter(updates))][key].shape)) for key, value in mean.items()
    }


def _rows(scores: Iterable[Score]) -> list[int]:
    """Return how many images of each class were scored."""
    return [int(rows) for rows in total(scores).confusion.sum(axis=1)]
