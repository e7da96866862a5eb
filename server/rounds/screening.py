"""What of a site's answers may be used: each is held against what the site said of itself, or refused by name."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from fedbus.errors import FedbusError, RunError
from fedbus.models.state import State
from fedbus.settings.schema import Settings
from fedbus.transport.messages import Registration, Report
from fedbus.transport.weights import WeightCodec
from server.rounds.flower_messages import update_of
from server.rounds.messaging import Replies, Roster, explain, metrics_of

MOST_LOSS = 1e6
"""Above it a loss says nothing but that training broke down; finite sums of it stay finite."""

MOST_LOSS_AN_IMAGE = 28.0
"""Likelihoods are clipped at 1e-12, whose negative logarithm is 27.6."""


@dataclass(frozen=True)
class Screened:
    """Answers that can be used, and why the others can't, by site."""

    reports: Mapping[str, Report]
    updates: Mapping[str, State]
    refused: Mapping[str, str]

    @property
    def why(self) -> str:
        """All refusals in one line."""
        return "; ".join(f"{site}: {reason}" for site, reason in self.refused.items())


def screen_updates(replies: Replies, roster: Roster, settings: Settings, before: State, codec: WeightCodec) -> Screened:
    """Part a round's replies into updates that may be averaged and sites that are refused."""
    reports: dict[str, Report] = {}
    updates: dict[str, State] = {}
    refused = dict(replies.failures)
    for site, message in replies.content.items():
        try:
            report = _checked(Report.from_metrics(metrics_of(message)), roster.registration(site), "validation")
            update = update_of(message, codec)
            reason = check_update(update, before, settings.update_limit)
        except FedbusError as error:
            reason = explain(error)
        if reason:
            refused[site] = reason
        else:
            reports[site], updates[site] = report, update
    return Screened(reports, updates, refused)


def screen_scores(replies: Replies, roster: Roster, split: str) -> Screened:
    """Part the replies to an evaluation into scores that may be added up and sites that are refused."""
    reports: dict[str, Report] = {}
    refused = dict(replies.failures)
    for site, message in replies.content.items():
        try:
            reports[site] = _checked(Report.from_metrics(metrics_of(message)), roster.registration(site), split)
        except FedbusError as error:
            refused[site] = explain(error)
    return Screened(reports, {}, refused)


def _checked(report: Report, registration: Registration, split: str) -> Report:
    """Hold a report against the counts with which its site introduced itself.

    Raises:
        RunError: it can't be about that site's rows.
    """
    rows = np.array(registration.splits[split])
    most_weight = max(1, sum(registration.splits["train"]), sum(registration.balanced), int(rows.sum()))
    faults = {
        "another number of images": bool((report.score.confusion.sum(axis=1) != rows).any()),
        "more weight than it has images": report.weight > most_weight,
        "a loss that no model has": report.loss > MOST_LOSS or report.score.loss_sum > rows.sum() * MOST_LOSS_AN_IMAGE,
        "test figures of another number of images": (
            report.test is not None and int(report.test.metrics["images"]) != rows.sum()
        ),
    }
    wrong = [fault for fault, found in faults.items() if found]
    if wrong:
        raise RunError(f"Its report has {', '.join(wrong)}.", "Install the same version of FedBUS there.")
    return report


def check_update(update: State, before: State, limit: float) -> str | None:
    """Say why a site's update must be refused, or None if it may be averaged.

    Args:
        update: the model that came back.
        before: the model that was sent.
        limit: largest allowed ||update - before|| as a multiple of ||before||.
    """
    if update.keys() != before.keys():
        return "its arrays have other names"
    for key, value in update.items():
        if value.shape != before[key].shape:
            return f"{key} has shape {tuple(value.shape)}, not {tuple(before[key].shape)}"
        if key.endswith("running_var") and (value < 0).any():
            return f"{key} holds negative variances"
    steps = {key: _norm(value - before[key]) for key, value in update.items()}
    for key, step in steps.items():  # the norm, in double precision, is finite where all values are
        if not math.isfinite(step):
            return f"{key} holds values that are not finite numbers"
    moved, size = math.hypot(*steps.values()), math.hypot(*(_norm(value) for value in before.values()))
    if moved > limit * size:
        times = moved / size if size else math.inf
        return f"it moves the model by {times:.0f} times the model's norm; {limit:g} is allowed"
    return None


def _norm(values: torch.Tensor) -> float:
    return float(torch.linalg.vector_norm(values, dtype=torch.float64))
