"""Metrics of an arm with 95 % bootstrap intervals, and paired comparisons of two arms."""

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
"""Metrics with one value per model."""

CLASS_METRICS = ("sensitivity", "specificity")
"""Metrics with one value per model and class."""

COMPARED = ("accuracy", "macro_f1", "auc")
"""Metrics whose differences between arms are reported."""


def evaluate(runs: Sequence[Predictions], draws: int, seed: int) -> dict[str, Any]:
    """Score one arm: the mean over its training seeds, with a bootstrap interval over test patients.

    The interval reflects the choice of test patients, not that of training seeds, which "spread" reflects. With few
    groups it is too narrow, and with one group per site it has no width; see "groups".

    Args:
        runs: Predictions of each seed, over the same rows in the same order.
        draws: Bootstrap draws of groups within sites, at least 1.
        seed: Seed of the draws; use the same for all arms that are compared.

    Returns:
        "accuracy", "macro_f1", "auc", "ece": {"value", "low", "high"} in 0..1, and with several seeds "spread", their
        sample standard deviation. "sensitivity", "specificity": the same for each class. An undefined value is None (a
        class without rows, the AUC of a single class). "confusion": 3 x 3 counts summed over seeds, truth in rows.
        "images", "groups": how many were scored.

    Raises:
        SettingsError: If `draws` is less than 1.
        RunError: If there are no runs, or runs over different rows.
    """
    rows = _same_rows(runs)
    points, sampled = _measure(runs, draws, seed)
    result: dict[str, Any] = {name: summarise(points[name][:, 0], sampled[name]) for name in METRICS}
    for name in CLASS_METRICS:
        result[name] = {label: summarise(points[name][:, 0, c], sampled[name][:, c]) for c, label in enumerate(CLASSES)}
    confusion = np.sum([metrics.confusion_matrix(run.labels, run.probabilities.argmax(axis=1)) for run in runs], axis=0)
    groups = len(set(zip(rows.sites.tolist(), rows.groups.tolist(), strict=True)))
    return {**result, "confusion": confusion.tolist(), "images": len(rows.labels), "groups": groups}


def differences(
    arm: Sequence[Predictions], reference: Sequence[Predictions], draws: int, seed: int
) -> dict[str, dict[str, float] | None]:
    """Compare two arms on the same draws: each metric of `COMPARED` for `arm` minus that for `reference`.

    Pairing removes the variation that both arms share because some patients are hard for both: the interval of a
    difference can exclude 0 although the intervals of the two arms overlap.

    Args:
        arm: Predictions of each seed.
        reference: Predictions of each seed, over the same rows in the same order.
        draws: Bootstrap draws of groups within sites, at least 1.
        seed: Seed of the draws.

    Returns:
        By metric: {"value", "low", "high"} in -1..1, or None where a metric is undefined.

    Raises:
        SettingsError: If `draws` is less than 1.
        RunError: If there are no runs, or runs over different rows.
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
    """Compute the metrics of a confusion matrix, for example the sum of those that sites report.

    Args:
        confusion: Integers [3, 3], truth in rows.

    Returns:
        "accuracy", "macro_f1" (over the classes that have rows) and "recall": {class: value, or None without rows}.

    Raises:
        RunError: If the matrix contains only zeros.
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
    """Return the first run, after checking that all runs are over its rows."""
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


def _measure(runs: Sequence[Predictions], draws: int, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Compute each metric on all rows by seed, [R, 1, ...], and by draw averaged over seeds, [B, ...]."""
    weights = bootstrap.draw_weights(runs[0].groups, runs[0].sites, draws, seed)
    once = np.ones((1, weights.shape[1]), dtype=np.uint8)
    points = [metrics.weighted_metrics(run.labels, run.probabilities, once) for run in runs]
    sampled = [metrics.weighted_metrics(run.labels, run.probabilities, weights) for run in runs]
    return (
        {name: np.stack([point[name] for point in points]) for name in points[0]},
        {name: np.mean([sample[name] for sample in sampled], axis=0) for name in sampled[0]},
    )


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
