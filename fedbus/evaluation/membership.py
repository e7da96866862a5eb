"""Membership scores: how much more confident a model is about a patient than about patients that took no part.

The likelihood-ratio test of Carlini et al., "Membership Inference Attacks From First Principles", IEEE S&P 2022, in its
one-sided form and without shadow models. For an image with true class y the statistic is the logit-scaled confidence
log(p_y / (1 - p_y)), which is close to normal. Where they train shadow models without the image, the distribution of
non-members is here a normal distribution for each true class, fitted to images of the same site that took no part. The
score is the distance from its mean in standard deviations: the higher, the less likely is a non-member.

The unit is the group (a patient with near-duplicates), because a patient takes part with all images: its score is the
mean over them. The fits are cross-fitted. Members and non-members are dealt into folds, and both are scored with the
fits to the non-members of the other folds. No score uses its own group, and without memorisation the scores of members
and non-members have the same distribution.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.evaluation.metrics import LEAST_PROBABILITY, FloatArray
from fedbus.evaluation.predictions import Predictions

FOLDS = 5
"""Folds of the cross-fitting."""

FEWEST = 10
"""Groups that an audit needs among the members and among the non-members."""

FEWEST_OF_CLASS = 5
"""Groups that each fit of a class needs. Images of a class with fewer are not scored."""

LEAST_DEVIATION = 1e-6
"""Bound on a standard deviation: a model may be equally confident about all images of a class."""


@dataclass(frozen=True, eq=False)
class GroupScores:
    """The scores of the groups of one site, for one trained model.

    Attributes:
        groups: str [G], members first.
        member: bool [G], whether the group was used for training.
        scores: float64 [G], higher for groups that look more like members.
        left_out: The classes whose images were not scored, because too few non-members have them.
        counts: The groups with images of any class, by the name of their split.
    """

    groups: NDArray[np.str_]
    member: NDArray[np.bool_]
    scores: FloatArray
    left_out: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def too_few(self) -> str:
        """Why there are too few groups for an audit; empty if there are enough."""
        few = [f"{count} {name} groups" for name, count in self.counts.items() if count < FEWEST]
        if not few:
            scored = dict(zip(self.counts, (int(self.member.sum()), int((~self.member).sum())), strict=True))
            few = [f"{count} {name} groups with a common class" for name, count in scored.items() if count < FEWEST]
        return f"{' and '.join(few)}; {FEWEST} are needed" if few else ""


@dataclass(frozen=True, eq=False)
class _Rows:
    """The images of the members, or of the non-members.

    Attributes:
        labels: int64 [N], positions in `CLASSES`.
        confidences: float64 [N].
        names: str [G], the groups.
        group: int64 [N], position in `names`.
        fold: int64 [G], the fold of each group.
    """

    labels: NDArray[np.int64]
    confidences: FloatArray
    names: NDArray[np.str_]
    group: NDArray[np.int64]
    fold: NDArray[np.int64]


def confidences(labels: NDArray[np.int64], probabilities: FloatArray) -> FloatArray:
    """Compute log(p_y / (1 - p_y)), float64 [N], where p_y is the probability of the true class.

    1 - p_y is computed as the sum of the other probabilities, which keeps its digits where p_y is close to 1.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        probabilities: float64 [N, 3].
    """
    truth = np.arange(len(CLASSES)) == labels[:, None]
    own, others = np.where(truth, probabilities, 0).sum(axis=1), np.where(truth, 0, probabilities).sum(axis=1)
    found: FloatArray = np.log(np.maximum(own, LEAST_PROBABILITY)) - np.log(np.maximum(others, LEAST_PROBABILITY))
    return found


def score_groups(members: Predictions, non_members: Predictions, seed: int) -> GroupScores:
    """Score the groups of one site.

    Args:
        members: The model's predictions on images that it was trained on.
        non_members: Those on images of other groups, which took no part in its training or choice.
        seed: Seed by which groups are dealt into folds.
    """
    random = np.random.default_rng(seed)
    inside, outside = _rows_of(members, random), _rows_of(non_members, random)
    scored = [label for label in range(len(CLASSES)) if _fewest_fitted(outside, label) >= FEWEST_OF_CLASS]
    present = set(inside.labels.tolist()) | set(outside.labels.tolist())
    found = [_group_means(rows, _standardise(rows, outside, scored)) for rows in (inside, outside)]
    return GroupScores(
        groups=np.concatenate([names for names, _ in found]),
        member=np.repeat([True, False], [len(names) for names, _ in found]),
        scores=np.concatenate([scores for _, scores in found]),
        left_out=tuple(name for label, name in enumerate(CLASSES) if label in present and label not in scored),
        counts={"training": len(inside.names), "test": len(outside.names)},
    )


def _rows_of(rows: Predictions, random: np.random.Generator) -> _Rows:
    """Deal the groups into folds at random, class by class, so that every fold has its share of each class."""
    names, first, group = np.unique(rows.groups, return_index=True, return_inverse=True)
    fold = np.empty(len(names), dtype=np.int64)
    fold[np.lexsort((random.permutation(len(names)), rows.labels[first]))] = np.arange(len(names)) % FOLDS
    return _Rows(rows.labels, confidences(rows.labels, rows.probabilities), names, group, fold)


def _fewest_fitted(outside: _Rows, label: int) -> int:
    """Count the groups of a class that its smallest fit rests on."""
    with_class = np.unique(outside.group[outside.labels == label])
    return len(with_class) - int(np.bincount(outside.fold[with_class], minlength=FOLDS).max())


def _standardise(rows: _Rows, outside: _Rows, scored: list[int]) -> FloatArray:
    """Score every image by the fit of its class to the non-members of the other folds; NaN where a class has none."""
    scores = np.full(len(rows.labels), np.nan)
    fold, fold_outside = rows.fold[rows.group], outside.fold[outside.group]
    for label in scored:
        for each in range(FOLDS):
            fitted = outside.confidences[(outside.labels == label) & (fold_outside != each)]
            deviation = max(float(fitted.std(ddof=1)), LEAST_DEVIATION)
            chosen = (rows.labels == label) & (fold == each)
            scores[chosen] = (rows.confidences[chosen] - fitted.mean()) / deviation
    return scores


def _group_means(rows: _Rows, scores: FloatArray) -> tuple[NDArray[np.str_], FloatArray]:
    """Average over the scored images of each group; groups without any are left out."""
    known = ~np.isnan(scores)
    count = np.bincount(rows.group[known], minlength=len(rows.names))
    total = np.bincount(rows.group[known], weights=scores[known], minlength=len(rows.names))
    kept = count > 0
    return rows.names[kept], total[kept] / count[kept]
