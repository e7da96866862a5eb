"""Balancing the classes of one site, on its training rows only.

Random over- and under-sampling choose indices, so no image is copied and no balanced set can reach validation
or test rows. SMOTE (Chawla et al., JAIR 2002) and ADASYN (He et al., IJCNN 2008) interpolate between training
images of one class. SMOTE with Tomek links (Batista, Bazzan and Monard, WOB 2003) and SMOTE with edited nearest
neighbours (Batista, Prati and Monard, SIGKDD Explorations 2004) interpolate so, and then remove rows that lie among
another class, training images as well as interpolated ones. All six are imbalanced-learn's (Lemaître et al., JMLR
2017), imported only where they are used: a machine that trains without them need not have it.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES, class_counts
from fedbus.errors import SettingsError

SAMPLERS = ("ros", "none", "class-weights", "rus", "smote", "adasyn", "smote-tomek", "smote-enn")
"""Random over-sampling, as they are, weights in the loss, random under-sampling, SMOTE, ADASYN, SMOTE and then without
Tomek links, SMOTE and then edited by nearest neighbours."""

INTERPOLATING = ("smote", "adasyn", "smote-tomek", "smote-enn")
"""Samplers that make synthetic images."""

NEIGHBOURS = 5
"""Of SMOTE and ADASYN, as in both papers: an image is interpolated with one of this many of its class."""

VOTERS = 3
"""Of edited nearest neighbours: an image stays if all of this many next to it are of its class. So imbalanced-learn has
it; Batista et al. (2004) ask for most of three, which removes less."""


@dataclass(frozen=True, eq=False)
class Balanced:
    """What a site trains on: item k < M is `pixels[rows[k]]`, item k >= M is `synthetic[k - M]`.

    Attributes:
        rows: int64 [M], positions in the site's pixel array: repeated where over-sampled (ros), some missing where
            removed (rus, smote-tomek, smote-enn).
        labels: int64 [M + S], positions in `CLASSES`.
        synthetic: uint8 [S, H, W], interpolated images; S is 0 unless the sampler is in `INTERPOLATING`.
        class_weights: float32 [3], weights of the loss; all 1 unless the sampler is class-weights.
    """

    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    synthetic: NDArray[np.uint8]
    class_weights: NDArray[np.float32]


def balance(
    pixels: NDArray[np.uint8],
    labels: NDArray[np.int64],
    training_rows: NDArray[np.int64],
    sampler: str,
    seed: int,
) -> Balanced:
    """Balance the classes that a site has; one that it lacks stays missing.

    Over-sampling (ros, smote, adasyn) brings each class to the largest one's size, ADASYN nearly so;
    under-sampling (rus) to the smallest one's. What smote-tomek and smote-enn remove after SMOTE leaves the classes of
    unequal sizes again, smote-enn sometimes very. All that interpolate hold the training images as float32 several
    times over.

    Args:
        pixels: uint8 [N, H, W], the whole site, memory-mapped; only training rows are read, and only by
            samplers in `INTERPOLATING`.
        labels: int64 [N], positions in `CLASSES`.
        training_rows: int64 [T], distinct positions in `pixels`.
        sampler: one of `SAMPLERS`.
        seed: at least 0; the same seed and rows give the same result.

    Raises:
        SettingsError: an unknown sampler, no training rows, rows that can't be interpolated, or a class of which
            smote-tomek or smote-enn would leave no row.
    """
    if sampler not in SAMPLERS:
        raise SettingsError(f"There is no sampler {sampler!r}.", f"Choose from {', '.join(SAMPLERS)}.")
    if len(training_rows) == 0:
        raise SettingsError("There are no training rows to balance.", "Give training a larger share.")
    rows = np.asarray(training_rows, dtype=np.int64)
    synthetic = np.empty((0, *pixels.shape[1:]), dtype=np.uint8)
    invented = np.empty(0, dtype=np.int64)
    weights = np.ones(len(CLASSES), dtype=np.float32)
    # imbalanced-learn refuses a single class, which is balanced already.
    several = len(np.unique(labels[rows])) > 1
    state = seed % 2**32  # all that its random state takes
    if sampler == "class-weights":
        weights = _inverse_frequencies(labels[rows])
    elif sampler in ("ros", "rus") and several:
        rows = _resample(rows, labels[rows], sampler, state)
    elif sampler in INTERPOLATING and several:
        kept, synthetic, invented = _synthesise(pixels[rows], labels[rows], sampler, state)
        rows = rows[kept]
    return Balanced(rows, np.concatenate([labels[rows], invented]), synthetic, weights)


def _inverse_frequencies(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weigh classes so that each counts alike and the mean over rows is 1, so that the loss keeps its scale.

    An absent class gets 0, not infinity: no row carries its label, and where a loss smooths labels it must
    not push the logit of a class that this site can't judge.
    """
    counts = np.bincount(labels, minlength=len(CLASSES))
    share = np.zeros(len(CLASSES))
    np.divide(len(labels), np.count_nonzero(counts) * counts, out=share, where=counts > 0)
    return share.astype(np.float32)


def _resample(rows: NDArray[np.int64], labels: NDArray[np.int64], sampler: str, seed: int) -> NDArray[np.int64]:
    """Repeat (ros) or drop (rus) rows; over-sampling keeps every row and appends the repeats."""
    from imblearn.over_sampling import RandomOverSampler
    from imblearn.under_sampling import RandomUnderSampler

    method = RandomOverSampler if sampler == "ros" else RandomUnderSampler
    chosen, _ = method(random_state=seed).fit_resample(rows[:, None], labels)
    return np.asarray(chosen[:, 0], dtype=np.int64)


def _synthesise(
    images: NDArray[np.uint8], labels: NDArray[np.int64], sampler: str, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Interpolate images of the smaller classes; give what is left of the old ones, the new ones and their labels."""
    _check_neighbours(labels, sampler)
    method = _interpolator(sampler, seed)
    flat = images.reshape(len(images), -1).astype(np.float32)
    try:
        resampled, resampled_labels = method.fit_resample(flat, labels)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(
            f"The sampler {sampler} fails on {class_counts(labels)} training rows: {error}",
            'Use sampler = "smote" or "ros".' if sampler == "adasyn" else 'Use sampler = "ros".',
        ) from error
    kept = _kept(method, len(resampled))
    _check_classes(labels, resampled_labels, sampler)
    # SMOTE and ADASYN return the originals first, in their order.
    new = kept >= len(flat)
    synthetic = np.clip(np.rint(resampled[new]), 0, 255).astype(np.uint8).reshape(-1, *images.shape[1:])
    return np.sort(kept[~new]), synthetic, np.asarray(resampled_labels[new], dtype=np.int64)


def _interpolator(sampler: str, seed: int) -> Any:
    """One of imbalanced-learn's classes, which have no common public type."""
    from imblearn.combine import SMOTEENN, SMOTETomek
    from imblearn.over_sampling import ADASYN, SMOTE
    from imblearn.under_sampling import EditedNearestNeighbours

    if sampler == "adasyn":
        return ADASYN(n_neighbors=NEIGHBOURS, random_state=seed)
    smote = SMOTE(k_neighbors=NEIGHBOURS, random_state=seed)
    if sampler == "smote-tomek":
        return SMOTETomek(smote=smote)
    if sampler == "smote-enn":
        return SMOTEENN(smote=smote, enn=EditedNearestNeighbours(sampling_strategy="all", n_neighbors=VOTERS))
    return smote


def _kept(method: Any, count: int) -> NDArray[np.int64]:
    """Which row of the interpolated set each of the `count` returned ones is: all, in order, unless it was cleaned."""
    cleaning = getattr(method, "tomek_", None) or getattr(method, "enn_", None)
    return np.asarray(cleaning.sample_indices_ if cleaning else np.arange(count), dtype=np.int64)


def _check_classes(before: NDArray[np.int64], after: NDArray[np.int64], sampler: str) -> None:
    """Refuse a cleaning that took every row of a class."""
    lost = [CLASSES[label] for label in np.setdiff1d(before, after)]
    if lost:
        raise SettingsError(
            f"The sampler {sampler} leaves no training row of {' and '.join(lost)} of {class_counts(before)}: each "
            "lies among images of another class.",
            'Use sampler = "smote" or "ros" at this site.',
        )


def _check_neighbours(labels: NDArray[np.int64], sampler: str) -> None:
    """Refuse a class that must grow but has too few rows to find `NEIGHBOURS` beside each."""
    counts = class_counts(labels)
    for name, count in counts.items():
        if 0 < count <= NEIGHBOURS and count < max(counts.values()):
            raise SettingsError(
                f"The sampler {sampler} needs {NEIGHBOURS + 1} training rows of a class; {name} has {count}.",
                'Use sampler = "ros" or "class-weights" at this site.',
            )
