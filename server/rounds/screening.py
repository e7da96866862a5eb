"""Decide which replies can be used: each is checked against its site's registration, or refused with a reason."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from fedbus.errors import FedbusError, RunError
from fedbus.evaluation.binned_counts import MALIGNANT
from fedbus.models.state import State
from fedbus.settings.schema import Settings
from fedbus.transport.messages import BINS, LIKELIHOODS, Instruction, Registration
from fedbus.transport.read_values import MAX_LIKELIHOOD
from fedbus.transport.report import Report
from fedbus.transport.update_check import check_update
from fedbus.transport.weights import WeightCodec
from server.rounds.epsilon import epsilon_fault
from server.rounds.flower_messages import read_update
from server.rounds.messaging import Participants, Replies, read_metrics
from server.rounds.shares import most_weight

MAX_LOSS = 1e6
"""A larger training loss only shows that the training diverged; sums of losses below it stay finite."""

MAX_STEPS = 10**9
"""More optimiser steps than any site takes in a round; results add them up."""


@dataclass(frozen=True)
class Screened:
    """The replies that can be used, and why the others are refused, by site."""

    reports: Mapping[str, Report]
    updates: Mapping[str, State]
    refused: Mapping[str, str]

    @property
    def reasons(self) -> str:
        """All refusals in one line."""
        return "; ".join(f"{site}: {reason}" for site, reason in self.refused.items())


def screen_updates(
    replies: Replies, participants: Participants, settings: Settings, before: State, codec: WeightCodec
) -> Screened:
    """Separate the replies of a training round into updates that can be averaged and refused ones.

    Args:
        replies: The replies.
        participants: The sites.
        settings: The settings.
        before: The model that was sent, in full precision.
        codec: Unpacks the updates.
    """
    reports: dict[str, Report] = {}
    updates: dict[str, State] = {}
    refused = dict(replies.failures)
    federation = participants.federation(settings)
    for site, message in replies.messages.items():
        try:
            report = _check_report(
                Report.from_metrics(read_metrics(message)),
                participants.registration(site),
                "validation",
                most_weight(participants.registration(site), settings, federation),
            )
            update = read_update(message, codec, before)
            reason = epsilon_fault(report.epsilon, settings) or check_update(update, before, settings.update_limit)
        except FedbusError as error:
            reason = str(error)
        if reason:
            refused[site] = reason
        else:
            reports[site], updates[site] = report, update
    return Screened(reports, updates, refused)


def screen_scores(
    replies: Replies, participants: Participants, instruction: Instruction, *, fewer: bool = False
) -> Screened:
    """Separate the replies to an evaluation into scores that can be added up and refused ones.

    Args:
        replies: The replies.
        participants: The sites.
        instruction: What the sites were instructed to score.
        fewer: Whether sites may have left out images.
    """
    split = instruction.split
    reports: dict[str, Report] = {}
    refused = dict(replies.failures)
    for site, message in replies.messages.items():
        try:
            registration = participants.registration(site)
            rows = float(sum(registration.splits[split]))  # the weight of an evaluation, which nothing is averaged by
            found = Report.from_metrics(read_metrics(message))
            report = _check_report(found, registration, split, rows, fewer=fewer)
            _check_calibration(report, registration, instruction)
            reports[site] = report
        except FedbusError as error:
            refused[site] = str(error)
    return Screened(reports, {}, refused)


def _check_report(
    report: Report, registration: Registration, split: str, weight: float, *, fewer: bool = False
) -> Report:
    """Return a report if it agrees with the counts that its site registered.

    Args:
        report: The report.
        registration: What its site registered.
        split: The split that was scored.
        weight: The largest weight that the site can have.
        fewer: Whether the site may have left out images.

    Raises:
        RunError: If it can't be about that site's rows.
    """
    rows, scored = np.array(registration.splits[split]), report.score.confusion.sum(axis=1)
    faults = {
        "another number of images": bool((scored > rows if fewer else scored != rows).any()),
        "a larger weight than its number of images": report.weight > weight,
        "an impossible number of steps": report.steps > MAX_STEPS,
        "an impossible loss": report.loss > MAX_LOSS or bool((report.score.loss_sums > rows * MAX_LIKELIHOOD).any()),
        "test metrics of another number of images": (
            report.test is not None and int(report.test.metrics["images"]) != scored.sum()
        ),
    }
    wrong = [fault for fault, found in faults.items() if found]
    if wrong:
        raise RunError(f"Its report has {', '.join(wrong)}.", "Install the same version of FedBUS there.")
    return report


def _check_calibration(report: Report, registration: Registration, instruction: Instruction) -> None:
    """Check that a report has what the instruction collects, about the images that the site registered.

    Raises:
        RunError: If something is missing, or counts other images.
    """
    calibrated = report.calibrated if report.test and instruction.calibration else None
    missing = {
        "likelihoods": instruction.collect == LIKELIHOODS and report.likelihoods is None,
        "bins": instruction.collect == BINS and report.bins is None,
        "calibration": bool(report.test and instruction.calibration) and calibrated is None,
    }
    if any(missing.values()):
        names = ", ".join(name for name, is_missing in missing.items() if is_missing)
        raise RunError(f"Its report has no {names}.", "Install the same version of FedBUS there.")
    rows = registration.splits[instruction.split]
    for counts in (report.bins, calibrated.counts if calibrated else None):
        if counts and (sum(counts.malignant), counts.rows) != (rows[MALIGNANT], sum(rows)):
            raise RunError("Its bins count another number of images.", "Install the same version of FedBUS there.")
    if calibrated and instruction.calibration:
        calibrated.check(instruction.calibration)
