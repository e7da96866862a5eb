"""What a split that leaks claims, and what the same weights reach on rows that they can't know.

The claim is scored on the split's own test rows, the truth on the held-out ones: the test rows of the split by group.
Both intervals redraw true groups, patients and near-copies taken together, as everywhere. The two are of different
rows, so nothing pairs them: the interval of their difference comes from independent draws of each.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedbus.errors import RunError
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.evaluate import COMPARED, summarise
from fedbus.evaluation.metrics import FloatArray, weighted_metrics
from fedbus.evaluation.predictions import Predictions
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.arm import Arm
from simulations.results import score_everywhere
from simulations.scoring import score_arm, score_held_out


def leakage_of(settings: Settings, out: Path, sites: Mapping[str, Site], arms: Sequence[Arm]) -> dict[str, Any]:
    """Set what a finished run claims against the truth.

    Args:
        settings: its settings.
        out: its folder.
        sites: its hospitals.
        arms: its arms, all seeds of each.

    Returns:
        JSON types. "split": how the rows were parted. "leaked": by site, see `leaked_rows`. "arms": by arm "claim" and
        "truth", by place as `evaluate` gives them; and "difference", by place and metric the claim less the truth
        {"value", "low", "high"}, in -1..1, None where one of them is not defined. Places: each site, and `all`.

    Raises:
        RunError: the split does not leak, or an arm is not finished.
    """
    if settings.split == "groups":
        raise RunError(
            f"{out} was split by group: there is no leak to measure.",
            "Run it with --set split=images or --set split=balanced-images in another --out.",
        )
    found: dict[str, Any] = {}
    for name in dict.fromkeys(arm.name for arm in arms):
        seeds = [arm for arm in arms if arm.name == name]
        for arm in seeds:
            if not arm.folder.finished:
                raise RunError(f"{arm.folder.path} is not finished.", "Go on with the run by --resume.")
        claim = [score_arm(arm, settings, sites) for arm in seeds]
        truth = [score_held_out(arm, settings, sites) for arm in seeds]
        found[name] = {
            "claim": score_everywhere(claim, list(sites), settings),
            "truth": score_everywhere(truth, list(sites), settings),
            "difference": {
                place: difference(_at(claim, place), _at(truth, place), settings.bootstrap, settings.draw_seed)
                for place in (*sites, "all")
            },
        }
    return {
        "split": settings.split,
        "leaked": {name: leaked_rows(site) for name, site in sites.items()},
        "arms": found,
    }


def leaked_rows(site: Site) -> dict[str, int]:
    """Count the test rows that training knows.

    Returns:
        "test_rows"; "copies": of those, how many show the very picture of a training row, or are one, pixel by pixel at
        the study's size; "same_group": how many share a group with one.
    """
    train, test = site.splits["train"], site.splits["test"]
    seen = {site.pixels[row].tobytes() for row in np.unique(train)}
    return {
        "test_rows": len(test),
        "copies": sum(site.pixels[row].tobytes() in seen for row in test),
        "same_group": int(np.isin(site.groups[test], site.groups[train]).sum()),
    }


def difference(
    claim: Sequence[Predictions], truth: Sequence[Predictions], draws: int, seed: int
) -> dict[str, dict[str, float] | None]:
    """Compare a model with itself on other rows: accuracy, macro_f1 and auc of `claim` less those of `truth`.

    Args:
        claim: one a training seed, over the same rows.
        truth: one a training seed, over the same rows, which share no group with those of `claim`.
        draws: bootstrap draws of groups within sites, at least 1.
        seed: of the draws.

    Returns:
        A metric's {"value", "low", "high"}, in -1..1; None where either side's rows don't define it.
    """
    (value, drawn), (other, other_drawn) = (
        _measure(runs, draws, derive_seed(seed, side)) for runs, side in ((claim, "claim"), (truth, "truth"))
    )
    return {name: summarise(value[name] - other[name], drawn[name] - other_drawn[name]) for name in COMPARED}


def _measure(runs: Sequence[Predictions], draws: int, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Give each compared metric on all rows [1], and by draw [B], as means over training seeds."""
    weights = draw_weights(runs[0].groups, runs[0].sites, draws, seed)
    once = np.ones((1, weights.shape[1]), dtype=np.uint8)
    points = [weighted_metrics(run.labels, run.probabilities, once) for run in runs]
    drawn = [weighted_metrics(run.labels, run.probabilities, weights) for run in runs]
    return (
        {name: np.mean([point[name] for point in points], axis=0) for name in COMPARED},
        {name: np.mean([draw[name] for draw in drawn], axis=0) for name in COMPARED},
    )


def _at(runs: Sequence[Predictions], place: str) -> list[Predictions]:
    return list(runs) if place == "all" else [run.select(place) for run in runs]
