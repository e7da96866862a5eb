"""Classification metrics on weighted rows, many weightings at once."""

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES

FloatArray = NDArray[np.float64]


ECE_BINS = 15
"""Equal-width bins of confidence, as in Guo 2017."""


CHUNK_CELLS = 1 << 18
"""Weights held as float64 at once: 2 MB, so that a chunk and its copies stay in the processor's cache."""


def weighted_metrics(
    labels: NDArray[np.int64], probabilities: FloatArray, weights: NDArray[np.integer]
) -> dict[str, FloatArray]:
    """Compute every metric once a row of weights.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3], rows sum to 1.
        weights: integers [B, N], at least 0.

    Returns:
        accuracy, macro_f1, auc, ece [B] and sensitivity, specificity [B, 3], each in 0..1, NaN where a row of
        weights leaves nothing to compute it from.
    """
    step = max(1, CHUNK_CELLS // len(labels))
    chunks = [
        _chunk_metrics(labels, probabilities, weights[start : start + step].astype(np.float64))
        for start in range(0, len(weights), step)
    ]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunk_metrics(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> dict[str, FloatArray]:
    confusion = weighted_confusion(labels, probabilities.argmax(axis=1), weights)
    return {
        "accuracy": accuracy(confusion),
        "macro_f1": macro_f1(confusion),
        "auc": auc(labels, probabilities, weights),
        "ece": ece(labels, probabilities, weights),
        "sensitivity": sensitivity(confusion),
        "specificity": specificity(confusion),
    }


def weighted_confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """Count truth (rows) against prediction (columns): [B, 3, 3] from labels [N] and weights [B, N]."""
    size = len(CLASSES)
    cells = np.eye(size * size)[labels * size + predicted]
    counts: FloatArray = weights @ cells
    return counts.reshape(-1, size, size)


def accuracy(confusion: FloatArray) -> FloatArray:
    """Share of rows on the diagonal, [B] from [B, 3, 3]; the prediction is the argmax over all classes."""
    return _ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def sensitivity(confusion: FloatArray) -> FloatArray:
    """Share of a class's rows that were found, [B, 3]; NaN where the class is absent."""
    return _ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2))


def specificity(confusion: FloatArray) -> FloatArray:
    """Share of other classes' rows not called this class, [B, 3]; NaN where it or all others are absent."""
    truth, called = confusion.sum(axis=2), confusion.sum(axis=1)
    others = confusion.sum(axis=(1, 2))[:, None] - truth
    false_positives = called - np.diagonal(confusion, axis1=1, axis2=2)
    return np.where(truth > 0, _ratio(others - false_positives, others), np.nan)


def macro_f1(confusion: FloatArray) -> FloatArray:
    """Mean F1 over the classes present in the truth, [B]: a class that a hospital lacks has no F1."""
    truth, called = confusion.sum(axis=2), confusion.sum(axis=1)
    f1 = _ratio(2 * np.diagonal(confusion, axis1=1, axis2=2), truth + called)
    return _mean_over_classes(np.where(truth > 0, f1, np.nan))


def auc(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve, [B], ties counted half.

    All classes in `labels`: one-vs-rest, mean over classes. Exactly two, i < j: class j against class i,
    scored p_j / (p_i + p_j), so that what a model gives to a class that nobody has does not enter. `labels`
    fixes which of the two; a draw in which a class vanished leaves that class out of the mean.
    """
    present = np.unique(labels)
    if len(present) == 2:
        first, second = probabilities[:, present].T
        # Where both underflow to 0 there is no evidence either way.
        score = np.divide(second, first + second, out=np.full(len(labels), 0.5), where=first + second > 0)
        return _binary_auc(score, labels == present[1], weights)
    areas = [_binary_auc(probabilities[:, c], labels == c, weights) for c in present]
    return _mean_over_classes(np.stack(areas, axis=1))


def _binary_auc(score: FloatArray, positive: NDArray[np.bool_], weights: FloatArray) -> FloatArray:
    """Mann-Whitney: weight of (positive, negative) pairs in the right order over that of all pairs, [B]."""
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    of_positives = weights[:, positive]
    passed = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=passed[:, 1:])
    below = np.searchsorted(score[negatives], score[positive], side="left")
    up_to = np.searchsorted(score[negatives], score[positive], side="right")
    twice = np.einsum("bp,bp->b", of_positives, passed[:, below] + passed[:, up_to])
    return _ratio(twice, 2 * of_positives.sum(axis=1) * passed[:, -1])


def ece(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the expected calibration error, [B]: how far confidence and accuracy lie apart, mean over bins.

    Guo et al., On Calibration of Modern Neural Networks, ICML 2017; bins of top confidence, closed above.
    """
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gap_by_bin = weights @ (np.eye(ECE_BINS)[bins] * gap[:, None])
    return _ratio(np.abs(gap_by_bin).sum(axis=1), weights.sum(axis=1))


def _ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide, with NaN where there is nothing to divide by."""
    ratio = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean_over_classes(values: FloatArray) -> FloatArray:
    """Mean over the last axis of what is defined, NaN where nothing is."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))
