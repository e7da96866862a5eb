"""How well membership scores tell members from non-members: AUC and true-positive rates, with intervals.

An AUC of .5 is guessing: of a random member and a random non-member, the attack names the member in that share of
pairs. The true-positive rate at a small false-positive rate is the share of members that the attack names while it
accuses almost nobody wrongly; Carlini et al. (2022) prefer it, because an attack on a few patients is an attack.

Intervals are from a bootstrap over groups, members and non-members of each site drawn separately. All arms have the
same draws. The fits are not repeated in a draw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.evaluation import metrics
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.measured import summarise
from fedbus.evaluation.membership import GroupScores, score_groups
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import MEAN, mean_of_defined, seed_of_fold
from fedbus.seeds import derive_seed

LEVELS = {"tpr_at_1": 0.01, "tpr_at_5": 0.05}
"""False-positive rates by the name of the figure. Below 1 / rate non-members the rate can't be told from 0, so that the
figure is undefined: 100 groups for 1 %, 20 for 5 %."""

FIGURES = ("auc", *LEVELS)

Audited = tuple[Predictions, Predictions]
"""The predictions of one trained model on training rows (members) and on test rows (non-members)."""

AuditedFolds = Sequence[Sequence[Audited]]
"""For each fold those of each training seed."""


@dataclass(frozen=True, eq=False)
class _Attack:
    """By figure, its value for each seed, float64 [R], and in each draw, float64 [B]; NaN where it is undefined."""

    points: dict[str, FloatArray]
    sampled: dict[str, FloatArray]

    def summary(self) -> dict[str, Any]:
        return {name: summarise(self.points[name], self.sampled[name]) for name in FIGURES}


def measure_membership(arms: Mapping[str, AuditedFolds], sites: Sequence[str], draws: int, seed: int) -> dict[str, Any]:
    """Attack the models of several arms at each site.

    Args:
        arms: By arm its predictions, over the same rows in all arms; at each site those of the model used there.
        sites: The sites' names.
        draws: Bootstrap draws, at least 1.
        seed: Seed of the draws.

    Returns:
        "sites": by site "members" and "non_members", the groups that were scored, summed over folds; "left_out", the
        classes that were not scored in some fold; and "reason", why it was not attacked, else empty. "arms": by arm and
        place {figure: {"value", "low", "high"}} in 0..1 for every name in `FIGURES`, None where it is undefined.
        Places: the sites that were attacked, and the `mean` of those in which a figure is defined.

    Raises:
        SettingsError: If `draws` is less than 1.
    """
    found: dict[str, dict[str, _Attack]] = {arm: {} for arm in arms}
    facts = {}
    for site in sites:
        for arm, folds in arms.items():
            scored = [_score_fold(runs, site, seed_of_fold(seed, fold)) for fold, runs in enumerate(folds)]
            facts[site] = _describe(scored)
            if not facts[site]["reason"]:
                found[arm][site] = _attack_folds(scored, site, draws, seed)
    attacked = {arm: places | {MEAN: _mean(list(places.values()))} for arm, places in found.items() if places}
    return {
        "sites": facts,
        "arms": {
            arm: {place: attack.summary() for place, attack in places.items()} for arm, places in attacked.items()
        },
    }


def true_positive_rate(
    scores: FloatArray, member: NDArray[np.bool_], weights: FloatArray, false_positives: float
) -> FloatArray:
    """Compute the largest share of members above a threshold that at most a share of non-members reaches.

    Args:
        scores: float64 [G].
        member: bool [G].
        weights: float64 [B, G], at least 0.
        false_positives: The share of non-members, in 0..1.

    Returns:
        float64 [B] in 0..1; NaN without members or non-members.
    """
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.diff(scores[order]) != 0, True)  # equal scores are above a threshold together
    ordered, inside = weights[:, order], member[order]
    named = np.cumsum(ordered * inside, axis=1)
    accused = np.cumsum(ordered * ~inside, axis=1)
    # One part in 10^9 is for rounding: 5 of 100 must count as 5 %.
    allowed = last & (accused <= accused[:, -1:] * false_positives * (1 + 1e-9))
    rate = metrics.ratio(np.where(allowed, named, 0.0).max(axis=1), named[:, -1])
    return np.where(accused[:, -1] > 0, rate, np.nan)


def _score_fold(runs: Sequence[Audited], site: str, seed: int) -> list[GroupScores]:
    """Score the groups of one site, once for each training seed."""
    dealt = derive_seed(seed, "membership", site)
    return [score_groups(inside.select(site), outside.select(site), dealt) for inside, outside in runs]


def _describe(folds: Sequence[Sequence[GroupScores]]) -> dict[str, Any]:
    first = [seeds[0] for seeds in folds]  # which groups are scored does not depend on the model
    attacked = [scored for scored in first if not scored.too_few]
    return {
        "members": int(sum(scored.member.sum() for scored in attacked or first)),
        "non_members": int(sum((~scored.member).sum() for scored in attacked or first)),
        "left_out": sorted({name for scored in first for name in scored.left_out}),
        "reason": "" if attacked else first[0].too_few,
    }


def _attack_folds(folds: Sequence[Sequence[GroupScores]], site: str, draws: int, seed: int) -> _Attack:
    """Average the figures over the folds that have enough groups."""
    found = [
        _attack(seeds, site, draws, seed_of_fold(seed, fold))
        for fold, seeds in enumerate(folds)
        if not seeds[0].too_few
    ]
    return _Attack(
        {name: mean_of_defined([each.points[name] for each in found]) for name in FIGURES},
        {name: mean_of_defined([each.sampled[name] for each in found]) for name in FIGURES},
    )


def _attack(seeds: Sequence[GroupScores], site: str, draws: int, seed: int) -> _Attack:
    groups, member = seeds[0].groups, seeds[0].member
    strata = np.where(member, f"{site}/members", f"{site}/non-members")
    weights = draw_weights(groups, strata, draws, seed)
    once = np.ones((1, len(groups)), dtype=np.uint8)
    points = [_figures(each.scores, member, once) for each in seeds]
    sampled = [_figures(each.scores, member, weights) for each in seeds]
    return _Attack(
        {name: np.concatenate([each[name] for each in points]) for name in FIGURES},
        {name: np.mean([each[name] for each in sampled], axis=0) for name in FIGURES},
    )


def _figures(scores: FloatArray, member: NDArray[np.bool_], weights: NDArray[np.integer]) -> dict[str, FloatArray]:
    """Compute every figure for each weighting, uint8 [B, G]."""
    levels = {name: level for name, level in LEVELS.items() if (~member).sum() >= 1 / level}

    def compute(chunk: FloatArray) -> dict[str, FloatArray]:
        rates = {name: true_positive_rate(scores, member, chunk, level) for name, level in levels.items()}
        undefined = {name: np.full(len(chunk), np.nan) for name in LEVELS if name not in levels}
        return {"auc": metrics.binary_auc(scores, member, chunk), **rates, **undefined}

    return metrics.in_chunks(weights, compute)


def _mean(sites: Sequence[_Attack]) -> _Attack:
    """Average over the sites in which a figure is defined, each counting the same; they are the same in all arms."""
    return _Attack(
        {name: mean_of_defined([each.points[name] for each in sites]) for name in FIGURES},
        {name: mean_of_defined([each.sampled[name] for each in sites]) for name in FIGURES},
    )
