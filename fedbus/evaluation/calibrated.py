"""What a report shows of the calibration of one arm on one test set, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.evaluation import bootstrap, metrics
from fedbus.evaluation.binned_counts import MALIGNANT, add_counts, count_bins
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.calibration_slope import slope_and_intercept
from fedbus.evaluation.measured import check_same_rows, summarise
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.net_benefit import net_benefit, net_benefit_of_all
from fedbus.evaluation.operating_point import operating_point
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.reliability import brier, reliability

FIGURES = ("ece", "brier", "slope", "intercept")
"""Figures of calibration, before and after it."""

Runs = Sequence[tuple[Predictions, Calibration]]
"""For each training seed the predictions on the test rows, before calibration, and the calibration of the model."""


def measure_calibration(runs: Runs, draws: int, seed: int) -> dict[str, Any]:
    """Measure one arm on one test set: the mean over its training seeds, each with its own temperature and threshold.

    Args:
        runs: The arm's seeds, over the same rows in the same order.
        draws: Bootstrap draws of groups within sites, at least 1.
        seed: Seed of the draws; the same as for the other metrics.

    Returns:
        "before", "after": by name of `FIGURES` {"value", "low", "high"}, with several seeds "spread", or None where
        undefined; and "reliability": counts by confidence, summed over seeds. "operating_point": sensitivity,
        specificity, ppv and npv at the threshold, and "cells", the counts of `count_point` summed over seeds; None if a
        seed has no threshold. "decision_curve": net benefit of the "model" and of treating "all". "images": how many.

    Raises:
        SettingsError: If `draws` is less than 1.
        RunError: If there are no runs, or runs over different rows.
    """
    rows = check_same_rows([predictions for predictions, _ in runs])
    weights = bootstrap.draw_weights(rows.groups, rows.sites, draws, seed)
    before = [predictions.probabilities for predictions, _ in runs]
    after = [calibration.apply(predictions.probabilities) for predictions, calibration in runs]
    counts = [count_bins(rows.labels, each[:, MALIGNANT]) for each in after]
    return {
        "before": _summarise_figures(rows.labels, before, weights),
        "after": _summarise_figures(rows.labels, after, weights),
        "operating_point": _summarise_point(rows.labels, after, [c.threshold for _, c in runs], weights),
        "decision_curve": {
            "model": np.mean([net_benefit(each) for each in counts], axis=0).tolist(),
            "all": net_benefit_of_all(add_counts(counts)).tolist(),
        },
        "images": len(rows.labels),
    }


def calibration_figures(
    labels: NDArray[np.int64], probabilities: FloatArray, weights: NDArray[np.uint8]
) -> dict[str, FloatArray]:
    """Compute `FIGURES` on all rows, then for each weighting of them: float64 [1 + B] each."""
    malignant, probability = labels == MALIGNANT, probabilities[:, MALIGNANT]
    step = max(1, metrics.CHUNK_CELLS // len(labels))
    found: dict[str, list[FloatArray]] = {name: [] for name in FIGURES}
    for start in range(0, len(weights), step):
        chunk = weights[start : start + step].astype(np.float64)
        slope, intercept = slope_and_intercept(malignant, probability, chunk)
        once_and_chunk = np.concatenate([np.ones((1, len(labels))), chunk])
        values = {
            "ece": metrics.ece(labels, probabilities, once_and_chunk),
            "brier": brier(labels, probabilities, once_and_chunk),
            "slope": slope,
            "intercept": intercept,
        }
        for name, value in values.items():
            found[name].append(value if start == 0 else value[1:])
    return {name: np.concatenate(parts) for name, parts in found.items()}


def count_point(labels: NDArray[np.int64], probabilities: FloatArray, threshold: float) -> NDArray[np.int64]:
    """Place each row into the cell of the operating point that counts it, int64 [N, 4], one-hot."""
    above, malignant = probabilities[:, MALIGNANT] >= threshold, labels == MALIGNANT
    cells: NDArray[np.int64] = np.eye(4, dtype=np.int64)[2 * ~malignant + ~above]
    return cells


def _summarise_figures(
    labels: NDArray[np.int64], seeds: Sequence[FloatArray], weights: NDArray[np.uint8]
) -> dict[str, Any]:
    bins = [reliability(labels, each) for each in seeds]
    figures = [calibration_figures(labels, each, weights) for each in seeds]
    return {**_over_seeds(figures), "reliability": sum(bins[1:], bins[0]).to_dict()}


def _summarise_point(
    labels: NDArray[np.int64],
    seeds: Sequence[FloatArray],
    thresholds: Sequence[float | None],
    weights: NDArray[np.uint8],
) -> dict[str, Any] | None:
    figures, counts = [], []
    for probabilities, threshold in zip(seeds, thresholds, strict=True):
        if threshold is None:
            return None
        cells = count_point(labels, probabilities, threshold)
        counts.append(cells.sum(axis=0))
        figures.append(operating_point(np.concatenate([cells.sum(axis=0, keepdims=True), weights @ cells])))
    return {**_over_seeds(figures), "cells": np.sum(counts, axis=0).tolist()}


def _over_seeds(figures: Sequence[dict[str, FloatArray]]) -> dict[str, Any]:
    """Summarise figures [1 + B] of each seed: the first element is the value, the others are draws."""
    return {
        name: summarise(
            np.array([each[name][0] for each in figures]), np.mean([each[name][1:] for each in figures], axis=0)
        )
        for name in figures[0]
    }
