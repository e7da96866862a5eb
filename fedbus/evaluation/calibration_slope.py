"""Calibration slope and intercept for malignant against the rest, by logistic recalibration.

A slope below 1 means that probabilities are too extreme. The intercept is that of a model whose slope is fixed to 1:
below 0, malignant is predicted too often. Van Calster et al., "Calibration: the Achilles heel of predictive analytics",
BMC Medicine 17, 2019.
"""

import numpy as np
from numpy.typing import NDArray

from fedbus.evaluation.metrics import LEAST_PROBABILITY, FloatArray

MOST_STEPS, LONGEST_STEP, SMALLEST_STEP = 50, 5.0, 1e-9

MOST_EXTREME = 100.0
"""An estimate beyond this only shows that the two sides do not overlap, so that the likelihood has no maximum."""


def slope_and_intercept(
    malignant: NDArray[np.bool_], probability: FloatArray, weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Fit slope and intercept to all rows, and estimate them for each weighting of the rows.

    Args:
        malignant: bool [N], the truth.
        probability: float64 [N], of malignant.
        weights: float64 [B, N], at least 0: how often each row counts.

    Returns:
        float64 [1 + B] each: the slope of log-odds, and the intercept with a slope of 1. The first is that of all rows,
        the others are one step of Newton's method away from it. NaN where no malignant or no other row remains, and
        everywhere if the log-odds separate the two.
    """
    bounded = np.clip(probability, LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    log_odds = np.log(bounded) - np.log1p(-bounded)
    ones = np.ones_like(log_odds)
    return (
        _estimate(malignant, np.stack([ones, log_odds], axis=1), 0 * log_odds, weights)[:, 1],
        _estimate(malignant, ones[:, None], log_odds, weights)[:, 0],
    )


def _estimate(malignant: NDArray[np.bool_], columns: FloatArray, offset: FloatArray, weights: FloatArray) -> FloatArray:
    """Fit a logistic regression to columns [N, K]: float64 [1 + B, K].

    The one-step bootstrap spares a fit for every draw. Moulton and Zeger, "Bootstrapping generalized linear models",
    Computational Statistics and Data Analysis 11(1), 1991.
    """
    if columns.shape[1] > 1 and np.ptp(columns[:, 1:]) == 0:  # a model that says the same of all rows has no slope
        return np.full((1 + len(weights), columns.shape[1]), np.nan)
    once, found = np.ones((1, len(offset))), np.zeros(columns.shape[1])
    for _ in range(MOST_STEPS):
        step = _newton_step(malignant, columns, offset, once, found)[0]
        found = found + np.clip(step, -LONGEST_STEP, LONGEST_STEP)
        if not (np.abs(found) <= MOST_EXTREME).all() or (np.abs(step) <= SMALLEST_STEP).all():
            break
    converged = (np.abs(step) <= SMALLEST_STEP).all() and (np.abs(found) <= MOST_EXTREME).all()
    drawn = found + _newton_step(malignant, columns, offset, weights, found)
    all_rows = found if converged else np.full(len(found), np.nan)
    return np.concatenate([all_rows[None], np.where(converged, drawn, np.nan)])


def _newton_step(
    malignant: NDArray[np.bool_], columns: FloatArray, offset: FloatArray, weights: FloatArray, at: FloatArray
) -> FloatArray:
    """Compute the step towards the largest likelihood of each weighting, float64 [B, K]; NaN with only one side."""
    size = columns.shape[1]
    predicted = 1 / (1 + np.exp(-np.clip(columns @ at + offset, -500, 500)))
    gradient = weights @ ((malignant - predicted)[:, None] * columns)
    products = columns[:, :, None] * columns[:, None, :] * (predicted * (1 - predicted))[:, None, None]
    information = (weights @ products.reshape(len(columns), size * size)).reshape(-1, size, size)
    # With rows on both sides a matrix is regular; a little on the diagonal keeps the others solvable.
    step = np.linalg.solve(information + 1e-12 * np.eye(size), gradient[:, :, None])[:, :, 0]
    both = (weights[:, malignant].sum(axis=1) > 0) & (weights[:, ~malignant].sum(axis=1) > 0)
    return np.where(both[:, None], step.astype(np.float64), np.nan)
