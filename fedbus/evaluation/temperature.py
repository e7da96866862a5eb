"""Temperature scaling: one number per model that makes its probabilities agree with how often it is right.

Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. Logits are divided by the temperature T that
minimises the negative log-likelihood of validation images; no image changes its class. Each site only contributes its
sum of the negative log-likelihood at each temperature of a fixed grid. So a simulation and a federation between
hospitals fit by the same arithmetic, to the same bits.
"""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.evaluation.metrics import LEAST_PROBABILITY, FloatArray

STEPS_PER_OCTAVE, OCTAVES = 8, 3

GRID: tuple[float, ...] = tuple(
    2.0 ** (step / STEPS_PER_OCTAVE) for step in range(-OCTAVES * STEPS_PER_OCTAVE, OCTAVES * STEPS_PER_OCTAVE + 1)
)
"""Temperatures from 1/8 to 8 at equal distances of their logarithm; networks are overconfident by factors below 4."""


def scale(probabilities: FloatArray, temperature: float) -> FloatArray:
    """Calibrate probabilities: the softmax of their logarithms divided by the temperature.

    Args:
        probabilities: float64 [N, 3], rows sum to 1; a probability of 0 remains 0.
        temperature: Above 0; 1 changes nothing.
    """
    with np.errstate(divide="ignore"):
        logarithms = np.log(probabilities)
    powers = np.exp((logarithms - logarithms.max(axis=1, keepdims=True)) / temperature)
    calibrated: FloatArray = powers / powers.sum(axis=1, keepdims=True)
    return calibrated


def likelihood_sums(labels: NDArray[np.int64], probabilities: FloatArray) -> FloatArray:
    """Sum the negative log-likelihood of a site's rows at each temperature of `GRID`: float64 [49].

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3], before calibration.
    """
    rows = np.arange(len(labels))
    likelihoods = [scale(probabilities, temperature)[rows, labels] for temperature in GRID]
    return np.array([-np.log(np.clip(each, LEAST_PROBABILITY, 1.0)).sum() for each in likelihoods])


def fit_temperature(sites: Iterable[Sequence[float] | FloatArray]) -> float:
    """Fit the temperature to the sums of all sites: the lowest point of the grid, refined by a parabola.

    Args:
        sites: For each site what `likelihood_sums` returned. Their order does not matter.

    Raises:
        RunError: If there are no sites, or a sum is not finite.
    """
    sums = np.array([math.fsum(column) for column in zip(*sites, strict=True)])
    if len(sums) != len(GRID) or not np.isfinite(sums).all():
        raise RunError("There are no validation images to calibrate with.", "Check that a site has validation rows.")
    lowest = int(np.argmin(sums))
    if lowest in (0, len(GRID) - 1):
        return GRID[lowest]  # such as a model that makes no error on validation images
    before, at, after = sums[lowest - 1 : lowest + 2]
    curvature = before - 2 * at + after
    shift = 0.5 * (before - after) / curvature if curvature > 0 else 0.0
    return float(GRID[lowest] * 2.0 ** (shift / STEPS_PER_OCTAVE))
