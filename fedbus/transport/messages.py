"""What hub and sites say to each other besides weights: orders to sites, their introductions and their reports.

Every message is checked where it enters; `wire.py` lists all that a message may hold. Nothing here knows of Flower:
records are plain mappings.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.site_scores import SiteScores
from fedbus.evaluation.validation import Score
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings, check_site_name
from fedbus.sites.split import SPLITS

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
"""Names of the records in a message."""

WEIGHT = "num-examples"
"""The metric that Flower's strategies weigh a site by."""

ROUND, PROXIMAL_MU = "server-round", "proximal-mu"
"""Settings that Flower's strategies write into an order themselves."""

RUN = r"[0-9a-f]{0,16}"
"""What tells a run from another of the same name."""

TITLE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
"""What may name a folder at a site."""


@dataclass(frozen=True)
class Instruction:
    """What the server asks of a site.

    Attributes:
        settings: the settings, without places or names.
        seed: the training seed.
        classes: positions in `CLASSES` of the classes that some site of the federation has.
        split: which rows an evaluation is about.
        title: of the run, arm and seed; names the folder in which a site keeps the model that it receives.
        run: tells the run from an earlier one of that title; empty where each has a folder of its own.
        round: of a training, from 1; of an evaluation, the round that made the model.
        proximal_mu: FedProx's mu, 0 for every other strategy.
    """

    settings: Settings
    seed: int
    classes: tuple[int, ...]
    split: str = "validation"
    title: str = "run"
    round: int = 0
    proximal_mu: float = 0.0
    run: str = ""

    @property
    def memory(self) -> str:
        """The name under which a site remembers what it needs in later rounds: never that of another run."""
        return f"{self.title}-{self.run}" if self.run else self.title

    def to_config(self) -> dict[str, Any]:
        """The order as a config record; round and mu are the strategy's to add."""
        return {
            "settings": self.settings.for_sites(),
            "seed": self.seed,
            "classes": list(self.classes),
            "split": self.split,
            "title": self.title,
            "run": self.run,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Check an order where it enters the site.

        Raises:
            RunError, SettingsError: a key is missing or out of range.
        """
        try:
            instruction = cls(
                settings=build_settings(json.loads(str(config["settings"])), "the server"),
                seed=int(config["seed"]),
                classes=tuple(int(c) for c in config["classes"]),
                split=str(config["split"]),
                title=str(config["title"]),
                run=str(config["run"]),
                round=int(config.get(ROUND, 0)),
                proximal_mu=float(config.get(PROXIMAL_MU, 0.0)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad_message("The server's order", error) from error
        if not re.fullmatch(TITLE, instruction.title) or not re.fullmatch(RUN, instruction.run):
            raise _bad_message("The server's order", "its title or run can't name a folder")
        sound = instruction.split in SPLITS and set(instruction.classes) <= set(range(len(CLASSES)))
        if not sound or instruction.round < 0 or not 0 <= instruction.proximal_mu < math.inf:
            raise _bad_message("The server's order", "a value is out of range")
        return instruction


@dataclass(frozen=True)
class Registration:
    """How a site introduces itself before the first round: counts of what it trains on, no image and no patient.

    Attributes:
        site: its name.
        labels: the classes that it knows, in the order of its labels.
        image_size: pixels a side of its prepared images.
        splits: images of each class in each part, in the order of `CLASSES`.
        balanced: training rows of each class after balancing.
        groups: groups of images that may not be parted.
        patients: known patients, 0 where no image names one.
        dropped: images that were left out as copies.
        phantoms: whether its images are synthetic.
    """

    site: str
    labels: tuple[str, ...]
    image_size: int
    splits: dict[str, tuple[int, ...]]
    balanced: tuple[int, ...]
    groups: int
    patients: int
    dropped: int
    phantoms: bool = False

    def to_records(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Config and metrics of the reply."""
        counts = {f"images-{split}": list(self.splits[split]) for split in SPLITS}
        numbers = {"image-size": self.image_size, "balanced": list(self.balanced), "groups": self.groups}
        numbers |= {"patients": self.patients, "dropped": self.dropped, "phantoms": int(self.phantoms)}
        return {"site": self.site, "labels": list(self.labels)}, counts | numbers

    @classmethod
    def from_records(cls, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> Self:
        """Check an introduction where it enters the server.

        Raises:
            RunError: a key is missing or out of range.
        """
        try:
            check_site_name(str(config["site"]))
            registration = cls(
                site=str(config["site"]),
                labels=tuple(str(label) for label in config["labels"]),
                image_size=int(metrics["image-size"]),
                splits={split: tuple(int(count) for count in metrics[f"images-{split}"]) for split in SPLITS},
                balanced=tuple(int(count) for count in metrics["balanced"]),
                groups=int(metrics["groups"]),
                patients=int(metrics["patients"]),
                dropped=int(metrics["dropped"]),
                phantoms={0: False, 1: True}[metrics["phantoms"]],
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad_message("A site's introduction", error) from error
        rows = [*registration.splits.values(), registration.balanced]
        numbers = [
            *(count for row in rows for count in row),
            registration.groups,
            registration.patients,
            registration.dropped,
        ]
        if any(len(row) != len(CLASSES) for row in rows) or min(numbers) < 0:
            raise _bad_message("A site's introduction", "a value is out of range")
        return registration

    @property
    def classes(self) -> set[int]:
        """Positions in `CLASSES` of the classes that this site trains on."""
        return {index for index, count in enumerate(self.splits["train"]) if count}

    def misfit(self, settings: Settings) -> str:
        """Why what the site prepared is not what a study is about, in words; empty if it is."""
        if self.labels != CLASSES:
            return f"{self.site} knows the classes {', '.join(self.labels)}; the study has {', '.join(CLASSES)}"
        if self.image_size != settings.image_size:
            return (
                f"{self.site} prepared images of {self.image_size} pixels a side; the study wants {settings.image_size}"
            )
        return ""


@dataclass(frozen=True)
class Report:
    """What a site answers to an order, besides weights.

    Attributes:
        weight: what the aggregation weighs it by.
        score: of the model that came in, on the part that was asked for.
        loss: mean training loss; 0 for an evaluation.
        steps: optimiser steps; 0 for an evaluation.
        seconds: spent on the order at the site.
        test: what a deployed site says of the kept model on its test rows; None in all other replies.
    """

    weight: float
    score: Score
    loss: float = 0.0
    steps: int = 0
    seconds: float = 0.0
    test: SiteScores | None = None

    def to_metrics(self) -> dict[str, Any]:
        """The report as a metric record."""
        return {
            WEIGHT: self.weight,
            "confusion": [int(count) for count in self.score.confusion.ravel()],
            "loss-sum": self.score.loss_sum,
            "train-loss": self.loss,
            "steps": self.steps,
            "seconds": self.seconds,
            **(self.test.to_metrics() if self.test else {}),
        }

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> Self:
        """Check a report where it enters the server.

        Raises:
            RunError: a key is missing, a number is not finite or negative, or no image was scored.
        """
        try:
            confusion = np.array(metrics["confusion"], dtype=np.int64).reshape(len(CLASSES), len(CLASSES))
            report = cls(
                weight=float(metrics[WEIGHT]),
                score=Score(confusion, float(metrics["loss-sum"])),
                loss=float(metrics["train-loss"]),
                steps=int(metrics["steps"]),
                seconds=float(metrics["seconds"]),
                test=SiteScores.from_metrics(metrics) if "test-images" in metrics else None,
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad_message("A site's report", error) from error
        numbers = (report.weight, report.score.loss_sum, report.loss, report.seconds, report.steps)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or confusion.min() < 0 or report.weight == 0:
            raise _bad_message("A site's report", "a number is negative, zero or not finite")
        if not confusion.any():
            raise _bad_message("A site's report", "it scored no image")
        return report


def _bad_message(what: str, why: object) -> RunError:
    return RunError(f"{what} can't be understood ({why}).", "Run the same version of FedBUS everywhere.")
