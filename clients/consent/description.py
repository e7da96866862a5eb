"""What the operator of a site is shown of a study before it is approved: about ten lines, one per topic."""

from collections.abc import Mapping
from dataclasses import dataclass

from clients.limits.notice import changed_settings
from clients.site.studies import StudyRequest, describe_training
from fedbus.settings.privacy_rules import SECURE
from fedbus.settings.schema import Settings
from fedbus.text import plain_text
from fedbus.transport.messages import EVALUATION

SHOWN = ("model", "image-size", "rounds", "steps-per-round", "arms", "seeds", "privacy", "dp-epsilon", "dp-delta")
"""Settings that have a line of their own."""

PROBLEM = "Problem here"
"""The topic of what would keep this site from taking part."""

INSTALLED, NOT_INSTALLED = "It is the one installed here.", "It is NOT the one installed here: update FedBUS first."


@dataclass(frozen=True)
class Work:
    """What a study means at this site.

    Attributes:
        images: Distinct training images; None if they could not be counted.
        rows: Training rows after balancing.
        steps: Optimiser steps per round; None if they depend on the other sites.
        problem: Why the images could not be counted, or why this site would refuse the study; empty if neither.
    """

    images: int | None = None
    rows: int = 0
    steps: int | None = None
    problem: str = ""


def describe_request(request: StudyRequest, work: Work, site: str) -> list[tuple[str, str]]:
    """Return topic and text of each line.

    Args:
        request: The study.
        work: What it means at this site.
        site: This site's name.
    """
    study, settings = request.study, request.study.full_settings()
    evaluation = study.task == EVALUATION
    lines = [
        ("Model", f"{settings.model}, images of {settings.image_size} x {settings.image_size} pixels"),
        (
            "Task",
            "tests of models that the coordinator gives; no training" if evaluation else describe_training(settings),
        ),
    ]
    if not evaluation:
        lines += [("Steps", _steps(work)), ("Training rows", _rows(work))]
    lines += [
        ("What leaves", _leaves(settings, evaluation=evaluation)),
        ("Privacy", _privacy(settings, evaluation=evaluation)),
        ("Not default", _changed(settings)),
        *_others(study.sites, site),
        ("Application", study.application),
        ("", _installed(request)),
    ]
    if work.problem:
        lines.append((PROBLEM, work.problem))
    return [(topic, plain_text(text, 2000)) for topic, text in lines]


def _steps(work: Work) -> str:
    return "per round: set by all sites together" if work.steps is None else f"{work.steps} per round"


def _rows(work: Work) -> str:
    if work.images is None:
        return "not counted"
    return f"{work.images} images of this site, {work.rows} after balancing"


def _leaves(settings: Settings, *, evaluation: bool) -> str:
    if evaluation:
        return "counts and metrics on this site's test images; no weights"
    if settings.privacy == SECURE:
        return "masked weights and numbers, of which the hub learns sums over sites; image counts at the start"
    return "weights, counts and metrics of this site, after every round"


def _privacy(settings: Settings, *, evaluation: bool) -> str:
    modes = []
    if settings.privacy == SECURE and not evaluation:
        modes.append("secure aggregation: the hub learns sums over at least 3 sites, nothing of one site")
    if settings.dp_epsilon and not evaluation:
        trainings = len(settings.arms) * len(settings.seeds)
        together = f" in each of {trainings} trainings, which add up" if trainings > 1 else ""
        modes.append(
            f"differential privacy of the weights for patients in training: epsilon {settings.dp_epsilon:g}, "
            f"delta {settings.dp_delta:g}{together}"
        )
    return "; ".join(modes) or "none: the hub sees what this site alone sends"


def _changed(settings: Settings) -> str:
    changed = {key: pair for key, pair in changed_settings(settings).items() if key not in SHOWN}
    return ", ".join(f"{key} = {value} ({default})" for key, (value, default) in changed.items()) or "nothing else"


def _others(sites: Mapping[str, str], site: str) -> list[tuple[str, str]]:
    others = [f"{name} {key}" for name, key in sites.items() if name != site]
    return [("Other sites" if not number else "", text) for number, text in enumerate(others or ["none"])]


def _installed(request: StudyRequest) -> str:
    return INSTALLED if request.installed else NOT_INSTALLED
