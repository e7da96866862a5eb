"""Figures of each subgroup of a site's test rows, and their gap to the rest of the rows.

Groups of rows (patients) are drawn as for all other intervals, and each draw is scored on the subgroup and on the rest.
A patient with images on both sides is thus drawn with both, so a gap is not paired by image, but by draw. With several
folds, figures and gaps are means over the folds in which they are defined.

No figure rests on fewer than `FEWEST` patients. A subgroup with fewer is suppressed; and if all images of a site that a
column does not show belong to fewer, so is the smallest other subgroup, since subtracting those that are shown from the
site's figures would give theirs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.evaluation import metrics
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.measured import check_same_rows, summarise
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import Folds, mean_of_defined, seed_of_fold
from fedbus.sites.attribute_groups import natural_order
from fedbus.sites.lesion_size import NO_LESION

FEWEST = 10
"""Patients that a figure needs; groups of rows where no patients are known."""

FIGURES = ("auc", "accuracy", "sensitivity", "specificity")
"""What is computed of each subgroup: AUC as everywhere; sensitivity and specificity for malignant."""

UNKNOWN = "unknown"
"""The subgroup of images without a value."""

FEW, SUBTRACTION = "few", "subtraction"
"""Why a subgroup is suppressed: it has too few patients, or its figures would give those of a smaller one."""

MALIGNANT = CLASSES.index("malignant")

Masks = Sequence[NDArray[np.bool_]]
"""For each fold which of its rows are chosen, bool [N]."""


@dataclass(frozen=True, eq=False)
class _TestRows:
    """The test rows of one site.

    Attributes:
        rows: For each fold its rows; only their labels and paths are used.
        weights: For each fold its draws, uint8 [B, N].
        owners: By path the patient of an image, or its group where the patient is unknown.
    """

    rows: Sequence[Predictions]
    weights: Sequence[NDArray[np.uint8]]
    owners: Mapping[str, str]

    def count_images(self, chosen: Masks) -> int:
        """Count the rows that are chosen."""
        return int(sum(mask.sum() for mask in chosen))

    def owners_of(self, chosen: Masks, label: str = "") -> set[str]:
        """The patients of the chosen rows: of all, of the malignant ones, or of the `other` ones."""
        found: set[str] = set()
        for fold, mask in zip(self.rows, chosen, strict=True):
            malignant = fold.labels == MALIGNANT
            kept = mask & {"": np.ones_like(mask), "malignant": malignant, "other": ~malignant}[label]
            found.update(self.owners[path] for path in fold.paths[kept].tolist())
        return found

    def defined(self, chosen: Masks) -> tuple[str, ...]:
        """The figures of the chosen rows that rest on enough patients."""
        needed = {"sensitivity": "malignant", "specificity": "other"}
        return tuple(name for name in FIGURES if len(self.owners_of(chosen, needed.get(name, ""))) >= FEWEST)


@dataclass(frozen=True, eq=False)
class _Scored:
    """Figures of chosen rows in one fold: by figure, float64 [R] of each seed, and float64 [B] of each draw."""

    points: dict[str, FloatArray]
    sampled: dict[str, FloatArray]
    classes: frozenset[int]

    @property
    def kinds(self) -> set[frozenset[int]]:
        """The classes that the AUC distinguishes; empty where it is undefined."""
        return {self.classes} if len(self.classes) > 1 else set()


def measure_subgroups(
    arms: Mapping[str, Folds],
    columns: Mapping[str, Mapping[str, str]],
    owners: Mapping[str, str],
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Measure arms on every subgroup of one site's test rows.

    Args:
        arms: By arm its predictions on the test rows of this site only, as `measure_places` takes them.
        columns: By column the subgroup of each path, as `read_subgroups` returns them.
        owners: By path the patient of an image, or its group where the patient is unknown.
        draws: Bootstrap draws, at least 1.
        seed: Seed of the draws.

    Returns:
        "all": the figures of all test rows, as those of a subgroup. "columns": for each column its "name" and "groups":
        {"value", "suppressed": empty, `FEW` or `SUBTRACTION`, "images", "patients", "arms": {arm: {figure: {"value",
        "low", "high"}}}, "gaps": the same for the subgroup minus the rest, "few": the figures that rest on too few
        patients}. A figure that is undefined or rests on too few patients is None; of a suppressed subgroup there is
        nothing but its value. An AUC of three classes is not comparable with one of two: the gap in AUC is None where
        the subgroup and the rest differ in their classes, and so is the AUC where folds do.

    Raises:
        SettingsError: If `draws` is less than 1.
        RunError: If arms are over different rows.
    """
    folds = [check_same_rows(runs) for runs in next(iter(arms.values()))]
    for runs in zip(*arms.values(), strict=True):
        check_same_rows([run for seeds in runs for run in seeds])
    weights = [draw_weights(fold.groups, fold.sites, draws, seed_of_fold(seed, i)) for i, fold in enumerate(folds)]
    test = _TestRows(folds, weights, owners)
    everything = [np.ones(len(fold.labels), dtype=np.bool_) for fold in folds]
    return {
        "all": _describe(arms, test, everything, None),
        "columns": [{"name": name, "groups": _measure_column(arms, test, groups)} for name, groups in columns.items()],
    }


def _measure_column(arms: Mapping[str, Folds], test: _TestRows, groups: Mapping[str, str]) -> list[dict[str, Any]]:
    """Measure every subgroup of one column, in natural order, the unknown last."""
    cells = [np.array([groups.get(path, "") for path in fold.paths.tolist()], dtype=np.str_) for fold in test.rows]
    applies = [cell != NO_LESION for cell in cells]
    values = sorted(set(np.concatenate(cells).tolist()) - {NO_LESION}, key=lambda v: (v == "", natural_order(v)))
    chosen = {value: [cell == value for cell in cells] for value in values}
    suppressed = _find_suppressed(test, chosen, [~each for each in applies])
    described = []
    for value, masks in chosen.items():
        found: dict[str, Any] = {"value": value or UNKNOWN, "suppressed": suppressed.get(value, "")}
        if value not in suppressed:
            rest = [all_rows & ~mask for all_rows, mask in zip(applies, masks, strict=True)]
            found |= _describe(arms, test, masks, rest)
        described.append(found)
    return described


def _find_suppressed(test: _TestRows, chosen: Mapping[str, Masks], left_out: Masks) -> dict[str, str]:
    """Find the subgroups that are suppressed, with the reason of each; `left_out` are rows without a subgroup."""
    owners = {value: test.owners_of(masks) for value, masks in chosen.items()}
    suppressed = {value: FEW for value, found in owners.items() if len(found) < FEWEST}
    hidden = test.owners_of(left_out).union(*(owners[value] for value in suppressed))
    shown = [value for value in chosen if value not in suppressed]
    if suppressed and len(hidden) < FEWEST and shown:
        suppressed[min(shown, key=lambda value: len(owners[value]))] = SUBTRACTION
    return suppressed


def _describe(arms: Mapping[str, Folds], test: _TestRows, chosen: Masks, rest: Masks | None) -> dict[str, Any]:
    """Describe chosen rows: their counts, and each arm's figures and gaps to the rest."""
    defined = test.defined(chosen)
    comparable = [name for name in defined if rest and name in test.defined(rest)]
    figures, gaps = {}, {}
    for arm, folds in arms.items():
        scored = [_score(runs, weights, mask) for runs, weights, mask in zip(folds, test.weights, chosen, strict=True)]
        figures[arm] = {name: _summarise(scored, name) if name in defined else None for name in FIGURES}
        if rest:
            others = [
                _score(runs, weights, mask) for runs, weights, mask in zip(folds, test.weights, rest, strict=True)
            ]
            gaps[arm] = {name: _summarise_gap(scored, others, name) if name in comparable else None for name in FIGURES}
    return {
        "images": test.count_images(chosen),
        "patients": len(test.owners_of(chosen)),
        "arms": figures,
        "gaps": gaps,
        "few": [name for name in FIGURES if name not in defined],
    }


def _score(runs: Sequence[Predictions], weights: NDArray[np.uint8], chosen: NDArray[np.bool_]) -> _Scored:
    """Score the chosen rows of one fold; every figure is NaN if there are none."""
    labels = runs[0].labels[chosen]
    drawn = weights[:, chosen]
    once = np.ones((1, len(labels)), dtype=np.uint8)
    points = [_figures(run, chosen, once) for run in runs]
    sampled = [_figures(run, chosen, drawn) for run in runs]
    return _Scored(
        {name: np.concatenate([each[name] for each in points]) for name in FIGURES},
        {name: np.mean([each[name] for each in sampled], axis=0) for name in FIGURES},
        frozenset(labels.tolist()),
    )


def _figures(run: Predictions, chosen: NDArray[np.bool_], weights: NDArray[np.integer]) -> dict[str, FloatArray]:
    """Compute every figure of the chosen rows for each weighting [B]."""
    labels, probabilities = run.labels[chosen], run.probabilities[chosen]
    predicted = probabilities.argmax(axis=1)
    malignant, called = labels == MALIGNANT, predicted == MALIGNANT
    undefined = len(set(labels.tolist())) < 2

    def compute(chunk: FloatArray) -> dict[str, FloatArray]:
        return {
            "auc": np.full(len(chunk), np.nan) if undefined else metrics.auc(labels, probabilities, chunk),
            "accuracy": metrics.share(predicted == labels, np.ones_like(malignant), chunk),
            "sensitivity": metrics.share(called, malignant, chunk),
            "specificity": metrics.share(~called, ~malignant, chunk),
        }

    return metrics.in_chunks(weights, compute)


def _summarise(folds: Sequence[_Scored], name: str) -> dict[str, float] | None:
    """Summarise a figure over folds; None where it is undefined."""
    if name == "auc" and len(set[frozenset[int]]().union(*(fold.kinds for fold in folds))) > 1:
        return None
    return summarise(
        mean_of_defined([fold.points[name] for fold in folds]), mean_of_defined([fold.sampled[name] for fold in folds])
    )


def _summarise_gap(group: Sequence[_Scored], rest: Sequence[_Scored], name: str) -> dict[str, float] | None:
    """Summarise the gap of a subgroup to the rest over the folds in which both have the figure."""
    pairs = list(zip(group, rest, strict=True))
    both = [one.kinds | other.kinds for one, other in pairs if one.kinds and other.kinds]
    if name == "auc" and len(set[frozenset[int]]().union(*both)) > 1:
        return None
    return summarise(
        mean_of_defined([one.points[name] - other.points[name] for one, other in pairs]),
        mean_of_defined([one.sampled[name] - other.sampled[name] for one, other in pairs]),
    )
