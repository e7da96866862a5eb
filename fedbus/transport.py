"""What crosses the wire, all of it: model state, orders to sites, and their reports: weights, counts and metrics.

This file is what `server/` and `clients/` must agree on, and all that they share. Every message is checked where it
enters. It knows nothing of Flower: records are plain mappings here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.manifest import CLASSES
from fedbus.models import State
from fedbus.splits import PARTS
from fedbus.study import Study, build_study
from fedbus.validation import Score

ARRAYS, CONFIG, METRICS = "arrays", "config", "metrics"
"""Names of the records in a message."""

WEIGHT = "num-examples"
"""The metric that Flower's strategies weigh a site by."""

ROUND, PROXIMAL_MU = "server-round", "proximal-mu"
"""Settings that Flower's strategies write into an order themselves."""


def to_arrays(state: State) -> dict[str, NDArray[np.float32]]:
    """Model state as float32 arrays, sorted by name: some strategies remember arrays by their position."""
    return {key: state[key].numpy() for key in sorted(state)}


def to_state(arrays: Mapping[str, NDArray[Any]]) -> State:
    """Arrays as model state; half precision is raised to float32 first."""
    return {key: torch.from_numpy(np.array(value, dtype=np.float32)) for key, value in arrays.items()}


@dataclass(frozen=True)
class Order:
    """What the server asks of a site.

    Attributes:
        study: the settings, without places or names.
        seed: the training seed.
        classes: positions in `CLASSES` of the classes that some site of the federation has.
        part: which rows an evaluation is about.
        round: from 1.
        proximal_mu: FedProx's mu, 0 for every other strategy.
    """

    study: Study
    seed: int
    classes: tuple[int, ...]
    part: str = "validation"
    round: int = 0
    proximal_mu: float = 0.0

    def to_config(self) -> dict[str, Any]:
        """The order as a config record; round and mu are the strategy's to add."""
        return {
            "study": self.study.for_sites(),
            "seed": self.seed,
            "classes": list(self.classes),
            "part": self.part,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Order":
        """Check an order where it enters the site.

        Raises:
            RunError, SettingsError: a key is missing or out of range.
        """
        try:
            order = cls(
                study=build_study(json.loads(str(config["study"])), "the server"),
                seed=int(config["seed"]),
                classes=tuple(int(c) for c in config["classes"]),
                part=str(config["part"]),
                round=int(config.get(ROUND, 0)),
                proximal_mu=float(config.get(PROXIMAL_MU, 0.0)),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad_message("The server's order", error) from error
        sound = order.part in PARTS and set(order.classes) <= set(range(len(CLASSES)))
        if not sound or order.round < 0 or not 0 <= order.proximal_mu < math.inf:
            raise _bad_message("The server's order", "a value is out of range")
        return order


@dataclass(frozen=True)
class Hello:
    """How a site introduces itself before the first round.

    Attributes:
        site: its name.
        train: training images of each class, in the order of `CLASSES`.
    """

    site: str
    train: tuple[int, ...]

    def to_records(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Config and metrics of the reply."""
        return {"site": self.site}, {"train": list(self.train)}

    @classmethod
    def from_records(cls, config: Mapping[str, Any], metrics: Mapping[str, Any]) -> "Hello":
        """Check an introduction where it enters the server.

        Raises:
            RunError: a key is missing or out of range.
        """
        try:
            hello = cls(str(config["site"]), tuple(int(count) for count in metrics["train"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad_message("A site's introduction", error) from error
        if len(hello.train) != len(CLASSES) or min(hello.train) < 0 or not hello.site:
            raise _bad_message("A site's introduction", "a value is out of range")
        return hello

    @property
    def classes(self) -> set[int]:
        """Positions in `CLASSES` of the classes that this site trains on."""
        return {index for index, count in enumerate(self.train) if count}


@dataclass(frozen=True)
class Report:
    """What a site answers to an order, besides weights.

    Attributes:
        weight: what the aggregation weighs it by.
        score: of the model that came in, on the part that was asked for.
        loss: mean training loss; 0 for an evaluation.
        steps: optimiser steps; 0 for an evaluation.
        seconds: spent on the order at the site.
    """

    weight: float
    score: Score
    loss: float = 0.0
    steps: int = 0
    seconds: float = 0.0

    def to_metrics(self) -> dict[str, Any]:
        """The report as a metric record."""
        return {
            WEIGHT: self.weight,
            "confusion": [int(count) for count in self.score.confusion.ravel()],
            "loss-sum": self.score.loss_sum,
            "train-loss": self.loss,
            "steps": self.steps,
            "seconds": self.seconds,
        }

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> "Report":
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
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise _bad_message("A site's report", error) from error
        numbers = (report.weight, report.score.loss_sum, report.loss, report.seconds, report.steps)
        if not all(math.isfinite(n) and n >= 0 for n in numbers) or confusion.min() < 0 or report.weight == 0:
            raise _bad_message("A site's report", "a number is negative, zero or not finite")
        if not confusion.any():
            raise _bad_message("A site's report", "it scored no image")
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
        if not torch.isfinite(value).all():
            return f"{key} holds values that are not finite numbers"
        if key.endswith("running_var") and (value < 0).any():
            return f"{key} holds negative variances"
    moved = math.sqrt(sum(float((update[k] - before[k]).square().sum(dtype=torch.float64)) for k in before))
    size = math.sqrt(sum(float(v.square().sum(dtype=torch.float64)) for v in before.values()))
    if moved > limit * size:
        times = moved / size if size else math.inf
        return f"it moves the model by {times:.0f} times the model's norm; {limit:g} is allowed"
    return None


def _bad_message(what: str, why: object) -> RunError:
    return RunError(f"{what} can't be understood ({why}).", "Run the same version of FedBUS everywhere.")
