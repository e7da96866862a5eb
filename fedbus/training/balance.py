"""Balance the classes of a site, using only its training rows.

Random over- and under-sampling choose indices, so no image is copied, and validation and test rows can't enter a
balanced set. SMOTE (Chawla et al., JAIR 2002) and ADASYN (He et al., IJCNN 2008) interpolate between training images of
one class. SMOTE with Tomek links (Batista, Bazzan and Monard, WOB 2003) and SMOTE with edited nearest neighbours
(Batista, Prati and Monard, SIGKDD Explorations 2004) also interpolate, and then remove rows, real or synthetic, whose
neighbours are of another class. All six come from imbalanced-learn (Lemaître et al., JMLR 2017), which is imported only
by the samplers that use it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES, class_counts
from fedbus.errors import SettingsError

INTERPOLATING = ("smote", "adasyn", "smote-tomek", "smote-enn")
"""Samplers that create synthetic images."""

NEIGHBOURS = 5
"""Of SMOTE and ADASYN, as in both papers: an image is interpolated with one of its 5 nearest images of its class."""

VOTERS = 3
"""Of edited nearest neighbours: an image is kept if its 3 nearest images are all of its class. This is the rule of
imbalanced-learn; Batista et al. (2004) require a majority of the three, which removes fewer."""


@dataclass(frozen=True, eq=False)
class Balanced:
    """A balanced set: item k < M is the image `pixels[rows[k]]`, item k >= M is `synthetic[k - M]`.

    Attributes:
        rows: int64 [M], positions in the site's pixel array. Over-sampling (ros) repeats some; rus, smote-tomek and
            smote-enn leave some out.
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
    targets: Mapping[int, int] | None = None,
) -> Balanced:
    """Balance the classes that a site has; a class that it lacks remains missing.

    ros and smote bring each class to the size of the largest, adasyn approximately; rus brings each to the size of the
    smallest. smote-tomek and smote-enn remove rows after SMOTE, so their classes differ in size again, with smote-enn
    sometimes by much. Interpolating samplers need several float32 copies of the training images in memory.

    Args:
        pixels: uint8 [N, H, W], all images of the site, memory-mapped. Only the training rows are read, and only by
            samplers in `INTERPOLATING`.
        labels: int64 [N], positions in `CLASSES`.
        training_rows: int64 [T], positions in `pixels`.
        sampler: "none", "class-weights", or one of `ROW_SAMPLERS` or `INTERPOLATING`.
        seed: At least 0. The same seed and rows give the same result.
        targets: Rows of each class after over-sampling, see `fedbus.training.federation`; only for ros. None: as many
            as the largest class has.

    Raises:
        SettingsError: If the sampler is unknown, there are no training rows, they can't be interpolated, or smote-tomek
            or smote-enn would remove all rows of a class.
    """
    samplers = ("none", "class-weights", *ROW_SAMPLERS, *INTERPOLATING)
    if sampler not in samplers:
        raise SettingsError(f"There is no sampler {sampler!r}.", f"Choose from {', '.join(samplers)}.")
    if len(training_rows) == 0:
        raise SettingsError("There are no training rows to balance.", "Give training a larger share.")
    rows = np.asarray(training_rows, dtype=np.int64)
    synthetic = np.empty((0, *pixels.shape[1:]), dtype=np.uint8)
    synthetic_labels = np.empty(0, dtype=np.int64)
    weights = np.ones(len(CLASSES), dtype=np.float32)
    # imbalanced-learn rejects a single class, which needs no balancing.
    several = len(np.unique(labels[rows])) > 1
    state = seed % 2**32  # the range of imbalanced-learn's random state
    if sampler == "class-weights":
        weights = _inverse_frequencies(labels[rows])
    elif targets is not None:
        rows = over_sample_to(rows, labels[rows], targets, state)
    elif sampler in ROW_SAMPLERS and several:
        rows = ROW_SAMPLERS[sampler](rows, labels[rows], state)
    elif sampler in INTERPOLATING and several:
        kept, synthetic, synthetic_labels = _interpolate(pixels[rows], labels[rows], sampler, state)
        rows = rows[kept]
    return Balanced(rows, np.concatenate([labels[rows], synthetic_labels]), synthetic, weights)


def _inverse_frequencies(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weigh classes equally, with a mean of 1 over the rows, so that the scale of the loss is unchanged.

    A missing class gets 0, not infinity: no row has its label, and label smoothing must not push its logit.
    """
    counts = np.bincount(labels, minlength=len(CLASSES))
    share = np.zeros(len(CLASSES))
    np.divide(len(labels), np.count_nonzero(counts) * counts, out=share, where=counts > 0)
    return share.astype(np.float32)


def over_sample(rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Keep every row and append repetitions until all classes are as large as the largest."""
    from imblearn.over_sampling import RandomOverSampler

    chosen, _ = RandomOverSampler(random_state=seed).fit_resample(rows[:, None], labels)
    return np.asarray(chosen[:, 0], dtype=np.int64)


def over_sample_to(
    rows: NDArray[np.int64], labels: NDArray[np.int64], targets: Mapping[int, int], seed: int
) -> NDArray[np.int64]:
    """Keep every row and append repetitions until each class has as many rows as `targets` says."""
    from imblearn.over_sampling import RandomOverSampler

    strategy = {label: target for label, target in targets.items() if (labels == label).any()}
    if len(strategy) > 1:
        chosen, _ = RandomOverSampler(sampling_strategy=strategy, random_state=seed).fit_resample(rows[:, None], labels)
        return np.asarray(chosen[:, 0], dtype=np.int64)
    # imbalanced-learn rejects a single class; drawn as it would.
    (target,) = strategy.values()
    extra = np.random.RandomState(seed).randint(low=0, high=len(rows), size=target - len(rows))
    return np.concatenate([rows, rows[extra]])


def under_sample(rows: NDArray[np.int64], labels: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Leave rows out until all classes are as small as the smallest."""
    from imblearn.under_sampling import RandomUnderSampler

    chosen, _ = RandomUnderSampler(random_state=seed).fit_resample(rows[:, None], labels)
    return np.asarray(chosen[:, 0], dtype=np.int64)


ROW_SAMPLERS: dict[str, Callable[[NDArray[np.int64], NDArray[np.int64], int], NDArray[np.int64]]] = {
    "ros": over_sample,
    "rus": under_sample,
}
"""Samplers that repeat rows or leave some out: from rows int64 [T], their labels int64 [T] and a seed to rows."""


def _interpolate(
    images: NDArray[np.uint8], labels: NDArray[np.int64], sampler: str, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.uint8], NDArray[np.int64]]:
    """Interpolate images of the smaller classes.

    Returns:
        Positions in `images` of the rows that are kept, ascending; the synthetic images, and their labels.
    """
    _check_neighbours(labels, sampler)
    method = _make_interpolator(sampler, seed)
    flat = images.reshape(len(images), -1).astype(np.float32)
    try:
        resampled, resampled_labels = method.fit_resample(flat, labels)
    except (ValueError, RuntimeError) as error:
        raise SettingsError(
            f"The sampler {sampler} fails on {class_counts(labels)} training rows: {error}",
            'Use sampler = "smote" or "ros".' if sampler == "adasyn" else 'Use sampler = "ros".',
        ) from error
    kept = _kept_rows(method, len(resampled))
    _check_no_class_lost(labels, resampled_labels, sampler)
    # SMOTE and ADASYN return the original rows first, in their order.
    new = kept >= len(flat)
    synthetic = np.clip(np.rint(resampled[new]), 0, 255).astype(np.uint8).reshape(-1, *images.shape[1:])
    return np.sort(kept[~new]), synthetic, np.asarray(resampled_labels[new], dtype=np.int64)


def _make_interpolator(sampler: str, seed: int) -> Any:
    """Make a sampler of imbalanced-learn; its classes share no public type."""
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


def _kept_rows(method: Any, count: int) -> NDArray[np.int64]:
    """Positions in the interpolated set of the `count` returned rows: 0 to count-1, unless some were removed."""
    cleaning = getattr(method, "tomek_", None) or getattr(method, "enn_", None)
    return np.asarray(cleaning.sample_indices_ if cleaning else np.arange(count), dtype=np.int64)


def _check_no_class_lost(before: NDArray[np.int64], after: NDArray[np.int64], sampler: str) -> None:
    """Reject a result that contains no row of a class that was there before."""
    lost = [CLASSES[label] for label in np.setdiff1d(before, after)]
    if lost:
        raise SettingsError(
            f"The sampler {sampler} leaves no training row of {' and '.join(lost)} of {class_counts(before)}: each "
            "has neighbours of another class.",
            'Use sampler = "smote" or "ros" at this site.',
        )


def _check_neighbours(labels: NDArray[np.int64], sampler: str) -> None:
    """Reject a class that must grow but has too few rows for each to have `NEIGHBOURS` neighbours."""
    counts = class_counts(labels)
    for name, count in counts.items():
        if 0 < count <= NEIGHBOURS and count < max(counts.values()):
            raise SettingsError(
                f"The sampler {sampler} needs {NEIGHBOURS + 1} training rows per class; {name} has {count}.",
                'Use sampler = "ros" or "class-weights" at this site.',
            )
