"""The metrics of one arm on one test set, with the bootstrap draws that intervals and paired differences come from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation import bootstrap, metrics
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.predictions import Predictions

METRICS = ("accuracy", "macro_f1", "auc", "ece")
"""Metrics with one value per model."""

CLASS_METRICS = ("sensitivity", "specificity")
"""Metrics with one value per model and class."""

COMPARED = ("accuracy", "macro_f1", "auc")
"""Metrics whose differences between arms are reported."""


@dataclass(frozen=True, eq=False)
class Measured:
    """The metrics of one arm on one test set.

    Attributes:
        rows: The test rows, one element per fold; only their labels and names are used.
        points: By metric its value for each training seed, float64 [R], or [R, 3] for a metric per class.
        sampled: By metric its value in each bootstrap draw, averaged over seeds, float64 [B] or [B, 3].
        confusion: int64 [3, 3], summed over seeds, truth in rows; None for a mean over sites.
    """

    rows: tuple[Predictions, ...]
    points: dict[str, FloatArray]
    sampled: dict[str, FloatArray]
    confusion: NDArray[np.int64] | None = None

    def summary(self) -> dict[str, Any]:
        """Summarise the metrics as `fedbus.evaluation.evaluate.evaluate` describes, those that were measured."""
        found: dict[str, Any] = {
            name: summarise(self.points[name], self.sampled[name]) for name in METRICS if name in self.points
        }
        for name in (name for name in CLASS_METRICS if name in self.points):
            points, sampled = self.points[name], self.sampled[name]
            found[name] = {label: summarise(points[:, c], sampled[:, c]) for c, label in enumerate(CLASSES)}
        if self.confusion is not None:
            found["confusion"] = self.confusion.tolist()
        groups = sum(len(set(zip(fold.sites.tolist(), fold.groups.tolist(), strict=True))) for fold in self.rows)
        return {**found, "images": sum(len(fold.labels) for fold in self.rows), "groups": groups}

    def minus(self, reference: "Measured") -> dict[str, dict[str, float] | None]:
        """Compare with another arm on the same draws: {metric: {"value", "low", "high"}}, None where undefined.

        Raises:
            RunError: If the arms were measured on different rows.
        """
        if len(self.rows) != len(reference.rows):
            raise RunError("Arms were tested on different folds.", "Score both on the same folds.")
        for pair in zip(self.rows, reference.rows, strict=True):
            check_same_rows(pair)
        return {
            name: summarise(
                self.points[name].mean(axis=0, keepdims=True) - reference.points[name].mean(axis=0, keepdims=True),
                self.sampled[name] - reference.sampled[name],
            )
            for name in COMPARED
        }


def measure(runs: Sequence[Predictions], draws: int, seed: int) -> Measured:
    """Measure one arm on one fold; arguments and errors as `fedbus.evaluation.evaluate.evaluate`."""
    rows = check_same_rows(runs)
    weights = bootstrap.draw_weights(rows.groups, rows.sites, draws, seed)
    once = np.ones((1, weights.shape[1]), dtype=np.uint8)
    points = [metrics.weighted_metrics(run.labels, run.probabilities, once) for run in runs]
    sampled = [metrics.weighted_metrics(run.labels, run.probabilities, weights) for run in runs]
    confusions = [metrics.confusion_matrix(run.labels, run.probabilities.argmax(axis=1)) for run in runs]
    return Measured(
        (rows,),
        {name: np.concatenate([point[name] for point in points]) for name in points[0]},
        {name: np.mean([sample[name] for sample in sampled], axis=0) for name in sampled[0]},
        np.sum(confusions, axis=0),
    )


def check_same_rows(runs: Sequence[Predictions]) -> Predictions:
    """Return the first run, after checking that all runs are over its rows.

    Raises:
        RunError: If there are no runs, or runs over different rows.
    """
    if not runs:
        raise RunError("There are no runs to score.", "Give at least one.")
    for run in runs[1:]:
        for name in ("sites", "paths", "labels", "groups"):
            if not np.array_equal(getattr(run, name), getattr(runs[0], name)):
                raise RunError(
                    f"Runs differ in the {name} of their rows, so they can't be compared.",
                    "Score all of them on the same split, in the same order.",
                )
    return runs[0]


def summarise(points: FloatArray, sampled: FloatArray) -> dict[str, float] | None:
    """Summarise a metric: its mean over seeds, and the interval of its draws.

    Args:
        points: float64 [R], one value per seed.
        sampled: float64 [B], one value per draw, NaN where a draw leaves it undefined.

    Returns:
        {"value", "low", "high"}, and "spread" with several seeds; None if the metric is undefined.
    """
    if np.isnan(points).any() or np.isnan(sampled).all():
        return None
    low, high = bootstrap.interval(sampled)
    summary = {"value": float(points.mean()), "low": low, "high": high}
    return summary if len(points) == 1 else {**summary, "spread": float(points.std(ddof=1))}
