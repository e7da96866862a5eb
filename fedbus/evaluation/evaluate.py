"""Metrics of an arm with 95 % bootstrap intervals, and paired comparisons of two arms."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation import metrics
from fedbus.evaluation.measured import measure
from fedbus.evaluation.predictions import Predictions


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
    return measure(runs, draws, seed).summary()


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
    return measure(arm, draws, seed).minus(measure(reference, draws, seed))


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
