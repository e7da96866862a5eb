"""What a model answered on labelled rows, its metrics with 95 % intervals, and arms compared in pairs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation import bootstrap, metrics
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.predictions import Predictions

METRICS = ("accuracy", "macro_f1", "auc", "ece")
"""One number a model."""

CLASS_METRICS = ("sensitivity", "specificity")
"""One number a model and class."""

COMPARED = ("accuracy", "macro_f1", "auc")
"""Metrics of which differences between arms are given."""


def evaluate(runs: Sequence[Predictions], draws: int, seed: int) -> dict[str, Any]:
    """Score one arm: the mean over its seeds, and the interval that other patients would give.

    The interval covers the choice of test patients, not that of training seeds; the latter is "spread". With
    few groups it is too narrow, and with one group a site it has no width: look at "groups".

    Args:
        runs: one a seed, over the same rows in the same order.
        draws: bootstrap draws of groups within sites, at least 1.
        seed: of the draws; the same for all arms that will be compared.

    Returns:
        "accuracy", "macro_f1", "auc", "ece": {"value", "low", "high"[, "spread": sample standard deviation
        over seeds]}, in 0..1; "sensitivity" and "specificity": the same for each class. None stands where the
        rows define no value (an absent class; the AUC of one class). "confusion": [3][3] counts summed over
        seeds, rows are the truth. "images" and "groups": how many were scored.

    Raises:
        SettingsError: fewer than one draw.
        RunError: no runs, or runs over different rows.
    """
    rows = _same_rows(runs)
    points, sampled = _measure(runs, draws, seed)
    result: dict[str, Any] = {name: summarise(points[name][:, 0], sampled[name]) for name in METRICS}
    for name in CLASS_METRICS:
        result[name] = {label: summarise(points[name][:, 0, c], sampled[name][:, c]) for c, label in enumerate(CLASSES)}
    confusion = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    for run in runs:
        np.add.at(confusion, (run.labels, run.probabilities.argmax(axis=1)), 1)
    groups = len(set(zip(rows.sites.tolist(), rows.groups.tolist(), strict=True)))
    return {**result, "confusion": confusion.tolist(), "images": len(rows.labels), "groups": groups}


def differences(
    arm: Sequence[Predictions], reference: Sequence[Predictions], draws: int, seed: int
) -> dict[str, dict[str, float] | None]:
    """Compare two arms on the same draws: accuracy, macro_f1 and auc of `arm` less those of `reference`.

    Pairing takes out what both owe to the same hard patients: an interval can exclude 0 where the two arms'
    own intervals overlap.

    Returns:
        A metric's {"value", "low", "high"}, in -1..1, or None where the rows don't define it.

    Raises:
        SettingsError: fewer than one draw.
        RunError: no runs, or runs over different rows.
    """
    _same_rows([*arm, *reference])
    points, sampled = _measure(arm, draws, seed)
    other_points, other_sampled = _measure(reference, draws, seed)
    return {
        name: summarise(
            points[name].mean(axis=0) - other_points[name].mean(axis=0), sampled[name] - other_sampled[name]
        )
        for name in COMPARED
    }


def confusion_metrics(confusion: NDArray[np.integer]) -> dict[str, Any]:
    """Score a confusion matrix, such as the sum of those that sites report on their validation rows.

    Args:
        confusion: [3, 3] counts, rows are the truth.

    Returns:
        "accuracy", "macro_f1" (over the classes present in the truth) and "recall": {class: float or None}.

    Raises:
        RunError: an empty matrix.
    """
    if not confusion.any():
        raise RunError("No rows were counted.", "Check that at least one site has validation rows.")
    counts = confusion[None].astype(np.float64)
    recall = metrics.sensitivity(counts)[0].tolist()
    return {
        "accuracy": float(metrics.accuracy(counts)[0]),
        "macro_f1": float(metrics.macro_f1(counts)[0]),
        "recall": {name: None if np.isnan(r) else r for name, r in zip(CLASSES, recall, strict=True)},
    }


def _same_rows(runs: Sequence[Predictions]) -> Predictions:
    """Give the first run, if all are over its rows."""
    if not runs:
        raise RunError("There are no runs to score.", "Give at least one.")
    for run in runs[1:]:
        for name in ("sites", "paths", "labels", "groups"):
            if not np.array_equal(getattr(run, name), getattr(runs[0], name)):
                raise RunError(
                    f"Runs to be compared differ in the {name} of their rows.",
                    "Score all of them on the same split, in the same order.",
                )
    return runs[0]


def _measure(runs: Sequence[Predictions], draws: int, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Give each metric on all rows once, by seed [R, 1, ...], and by draw, seeds averaged [B, ...]."""
    weights = bootstrap.draw_weights(runs[0].groups, runs[0].sites, draws, seed)
    once = np.ones((1, weights.shape[1]), dtype=np.uint8)
    points = [metrics.weighted_metrics(run.labels, run.probabilities, once) for run in runs]
    sampled = [metrics.weighted_metrics(run.labels, run.probabilities, weights) for run in runs]
    return (
        {name: np.stack([point[name] for point in points]) for name in points[0]},
        {name: np.mean([sample[name] for sample in sampled], axis=0) for name in sampled[0]},
    )


def summarise(points: FloatArray, sampled: FloatArray) -> dict[str, float] | None:
    """Sum up a metric: its mean over seeds, and the interval of its draws.

    Args:
        points: float64 [R], one a seed.
        sampled: float64 [B], one a draw, NaN where the draw doesn't define it.

    Returns:
        {"value", "low", "high"[, "spread" of several seeds]}; None where the rows don't define it.
    """
    if np.isnan(points).any() or np.isnan(sampled).all():
        return None
    low, high = bootstrap.interval(sampled)
    summary = {"value": float(points.mean()), "low": low, "high": high}
    return summary if len(points) == 1 else {**summary, "spread": float(points.std(ddof=1))}
