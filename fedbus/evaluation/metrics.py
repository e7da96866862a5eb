"""Classification metrics of weighted rows, for many weightings at once.

In all functions N is the number of rows, B the number of weightings (bootstrap draws), and 3 the number of classes. A
weighting counts how often each row occurs, so that a metric of a weighting is the metric of the repeated rows.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES

FloatArray = NDArray[np.float64]

ECE_BINS = 15
"""Equal-width bins of confidence, as many as in Guo et al. (2017)."""

LEAST_PROBABILITY = 1e-12
"""Bound on the probability of the truth: a single confident error must not make the loss infinite."""

CHUNK_CELLS = 1 << 18
"""Weights converted to float64 at once: 2 MB, so that a chunk and its copies fit in the processor's cache."""


def weighted_metrics(
    labels: NDArray[np.int64], probabilities: FloatArray, weights: NDArray[np.integer]
) -> dict[str, FloatArray]:
    """Compute every metric for each weighting.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3], rows sum to 1.
        weights: Integers [B, N], at least 0.

    Returns:
        "accuracy", "macro_f1", "auc", "ece": float64 [B]; "sensitivity", "specificity": float64 [B, 3]. All are in
        0..1, or NaN where a weighting leaves them undefined.
    """
    return in_chunks(weights, lambda chunk: _chunk_metrics(labels, probabilities, chunk))


def in_chunks(
    weights: NDArray[np.integer], compute: Callable[[FloatArray], dict[str, FloatArray]]
) -> dict[str, FloatArray]:
    """Compute metrics of weights [B, N] in parts of `CHUNK_CELLS`, and join them along the first axis."""
    step = max(1, CHUNK_CELLS // max(1, weights.shape[1]))
    chunks = [compute(weights[start : start + step].astype(np.float64)) for start in range(0, len(weights), step)]
    return {name: np.concatenate([chunk[name] for chunk in chunks]) for name in chunks[0]}


def _chunk_metrics(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> dict[str, FloatArray]:
    confusion = weighted_confusion(labels, probabilities.argmax(axis=1), weights)
    return {
        **{name: metric(confusion) for name, metric in CONFUSION_METRICS.items()},
        **{name: metric(labels, probabilities, weights) for name, metric in PROBABILITY_METRICS.items()},
    }


def confusion_matrix(labels: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Count rows, int64 [3, 3]: truth in rows, prediction in columns; both int64 [N], positions in `CLASSES`."""
    counts = np.zeros((len(CLASSES), len(CLASSES)), dtype=np.int64)
    np.add.at(counts, (labels, predicted), 1)
    return counts


def weighted_confusion(labels: NDArray[np.int64], predicted: NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """Compute the confusion matrix of each weighting: truth in rows, prediction in columns.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        predicted: int64 [N], positions in `CLASSES`.
        weights: float64 [B, N], at least 0.

    Returns:
        float64 [B, 3, 3].
    """
    size = len(CLASSES)
    cells = np.eye(size * size)[labels * size + predicted]  # [N, 9], one-hot: a product counts all weightings
    counts: FloatArray = weights @ cells
    return counts.reshape(-1, size, size)


def share(part: NDArray[np.bool_], whole: NDArray[np.bool_], weights: FloatArray) -> FloatArray:
    """Share of the rows in `whole` that are also in `part`, both bool [N]: [B] in 0..1, NaN where no rows remain."""
    return ratio(weights @ (part & whole), weights @ whole)


def accuracy(confusion: FloatArray) -> FloatArray:
    """Share of rows that are predicted correctly: [B] in 0..1, from [B, 3, 3]."""
    return ratio(np.trace(confusion, axis1=1, axis2=2), confusion.sum(axis=(1, 2)))


def sensitivity(confusion: FloatArray) -> FloatArray:
    """Share of the rows of a class that are predicted as this class (recall): [B, 3] in 0..1, from [B, 3, 3].

    NaN for a class without rows.
    """
    return ratio(np.diagonal(confusion, axis1=1, axis2=2), confusion.sum(axis=2))


def specificity(confusion: FloatArray) -> FloatArray:
    """Share of the rows of other classes that are not predicted as this class: [B, 3] in 0..1, from [B, 3, 3].

    NaN for a class without rows, and for the only class that has rows.
    """
    truth, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    others = confusion.sum(axis=(1, 2))[:, None] - truth
    false_positives = predicted - np.diagonal(confusion, axis1=1, axis2=2)
    return np.where(truth > 0, ratio(others - false_positives, others), np.nan)


def macro_f1(confusion: FloatArray) -> FloatArray:
    """Mean F1 over the classes that have rows: [B] in 0..1, from [B, 3, 3].

    A class without rows has no F1, so a site is not penalised for a class that it lacks. Rows that are wrongly
    predicted as such a class still count as errors of their own class.
    """
    truth, predicted = confusion.sum(axis=2), confusion.sum(axis=1)
    f1 = ratio(2 * np.diagonal(confusion, axis1=1, axis2=2), truth + predicted)
    return _mean_over_classes(np.where(truth > 0, f1, np.nan))


def auc(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Area under the ROC curve, where ties count half.

    With three classes in `labels`: one-vs-rest, averaged over classes. With exactly two, i < j: class j against class
    i, scored by p_j / (p_i + p_j), so that the probability of a class that the site lacks has no effect. `labels`
    determines which case applies; a weighting without rows of a class leaves that class out of the average.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3].
        weights: float64 [B, N], at least 0.

    Returns:
        float64 [B] in 0..1, NaN where rows of a single class remain.
    """
    present = np.unique(labels)
    if len(present) == 2:
        first, second = probabilities[:, present].T
        # Where both probabilities underflow to 0, the model favours neither class.
        score = np.divide(second, first + second, out=np.full(len(labels), 0.5), where=first + second > 0)
        return binary_auc(score, labels == present[1], weights)
    areas = [binary_auc(probabilities[:, c], labels == c, weights) for c in present]
    return _mean_over_classes(np.stack(areas, axis=1))


def binary_auc(score: FloatArray, positive: NDArray[np.bool_], weights: FloatArray) -> FloatArray:
    """Compute the Mann-Whitney statistic: the share of (positive, negative) pairs in the right order, [B].

    Args:
        score: float64 [N], higher for positives.
        positive: bool [N].
        weights: float64 [B, N], at least 0.

    The negatives are sorted once. For each positive, the cumulated weights give the weight of the negatives below it
    and of those up to it; half their sum counts ties half.
    """
    negatives = np.flatnonzero(~positive)
    negatives = negatives[np.argsort(score[negatives], kind="stable")]
    positive_weights = weights[:, positive]
    cumulated = np.zeros((len(weights), len(negatives) + 1))
    np.cumsum(weights[:, negatives], axis=1, out=cumulated[:, 1:])
    below = np.searchsorted(score[negatives], score[positive], side="left")
    up_to = np.searchsorted(score[negatives], score[positive], side="right")
    twice = np.einsum("bp,bp->b", positive_weights, cumulated[:, below] + cumulated[:, up_to])
    return ratio(twice, 2 * positive_weights.sum(axis=1) * cumulated[:, -1])


def ece(labels: NDArray[np.int64], probabilities: FloatArray, weights: FloatArray) -> FloatArray:
    """Compute the expected calibration error: the mean distance of confidence and accuracy over bins of confidence.

    Guo et al., "On Calibration of Modern Neural Networks", ICML 2017. The confidence is the highest probability; a bin
    includes its upper bound.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3].
        weights: float64 [B, N], at least 0.

    Returns:
        float64 [B] in 0..1, NaN where no rows remain.
    """
    confidence = probabilities.max(axis=1)
    gap = (probabilities.argmax(axis=1) == labels) - confidence
    bins = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gap_by_bin = weights @ (np.eye(ECE_BINS)[bins] * gap[:, None])
    return ratio(np.abs(gap_by_bin).sum(axis=1), weights.sum(axis=1))


def ratio(part: FloatArray, whole: FloatArray) -> FloatArray:
    """Divide, giving NaN where the divisor is 0."""
    ratio = np.full(whole.shape, np.nan)
    np.divide(part, whole, out=ratio, where=whole > 0)
    return ratio


def _mean_over_classes(values: FloatArray) -> FloatArray:
    """Average over the last axis, ignoring NaN; NaN where all values are."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1).astype(np.float64))


CONFUSION_METRICS: dict[str, Callable[[FloatArray], FloatArray]] = {
    "accuracy": accuracy,
    "macro_f1": macro_f1,
    "sensitivity": sensitivity,
    "specificity": specificity,
}
"""Metrics of confusion matrices: from float64 [B, 3, 3] to [B], or to [B, 3] for a figure per class."""

PROBABILITY_METRICS: dict[str, Callable[[NDArray[np.int64], FloatArray, FloatArray], FloatArray]] = {
    "auc": auc,
    "ece": ece,
}
"""Metrics of probabilities: from labels int64 [N], probabilities float64 [N, 3] and weights float64 [B, N] to [B]."""
