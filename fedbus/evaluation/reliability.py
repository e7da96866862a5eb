"""How well probabilities agree with what is true: reliability bins, calibration error and Brier score."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.evaluation.metrics import ECE_BINS, FloatArray


@dataclass(frozen=True, eq=False)
class Reliability:
    """Images by their confidence, the probability of the predicted class, in 15 bins of equal width.

    Attributes:
        count: Images in each bin, int64 [15].
        correct: Images of them that were predicted correctly, int64 [15].
        confidence: Sum of their confidence, float64 [15].
    """

    count: NDArray[np.int64]
    correct: NDArray[np.int64]
    confidence: FloatArray

    def __add__(self, other: "Reliability") -> "Reliability":
        return Reliability(self.count + other.count, self.correct + other.correct, self.confidence + other.confidence)

    @property
    def ece(self) -> float:
        """The expected calibration error, as `fedbus.evaluation.metrics.ece`."""
        return float(np.abs(self.correct - self.confidence).sum() / self.count.sum())

    def to_dict(self) -> dict[str, list[float]]:
        """Return the bins with JSON types."""
        return {name: getattr(self, name).tolist() for name in ("count", "correct", "confidence")}


def reliability(labels: NDArray[np.int64], probabilities: FloatArray, *, percents: bool = False) -> Reliability:
    """Count images by confidence; a bin includes its upper edge, as in `fedbus.evaluation.metrics.ece`.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3].
        percents: Whether to add up confidences that are rounded to whole percents, as a site does for the hub: the sum
            of a bin with a single image must not show its probability with all digits.
    """
    confidence, correct = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    sums = np.bincount(bins, np.round(confidence, 2) if percents else confidence, minlength=ECE_BINS)
    return Reliability(
        np.bincount(bins, minlength=ECE_BINS),
        np.bincount(bins[correct], minlength=ECE_BINS),
        np.round(sums, 2) if percents else sums.astype(np.float64),
    )


def brier(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the Brier score of several classes: the mean squared distance of probabilities and truth.

    Brier, "Verification of forecasts expressed in terms of probability", Monthly Weather Review 78(1), 1950. It is the
    sum over classes, from 0 to 2.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3].
        weights: float64 [B, N], at least 0, with a sum above 0.

    Returns:
        float64 [B].
    """
    distances = ((probabilities - np.eye(len(CLASSES))[labels]) ** 2).sum(axis=1)
    scores: FloatArray = weights @ distances / weights.sum(axis=1)
    return scores
