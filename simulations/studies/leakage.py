"""Measure leakage: what a leaky split claims, and what the same weights reach on rows unrelated to training.

The claim is scored on the split's own test rows, the truth on the held-out rows: the test rows of the split by group.
Both bootstraps resample groups (a patient's images and their near-duplicates), as everywhere. Claim and truth are
scored on different rows, so they are not paired: the interval of their difference comes from independent draws.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fedbus.errors import RunError
from fedbus.evaluation.bootstrap import draw_weights
from fedbus.evaluation.measured import COMPARED, summarise
from fedbus.evaluation.metrics import FloatArray, weighted_metrics
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import ALL
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.arm import Arm
from simulations.results import measure_arm, summaries
from simulations.scoring import score_arm, score_held_out


def leakage_of(settings: Settings, out: Path, sites: Mapping[str, Site], arms: Sequence[Arm]) -> dict[str, Any]:
    """Compare what a finished run claims with the truth.

    Args:
        settings: The run's settings.
        out: The run folder.
        sites: The run's sites, by name.
        arms: The run's arms, all seeds of each.

    Returns:
        JSON types. "split": the split's protocol. "leaked": by site, see `leaked_rows`. "arms": for each arm "claim"
        and "truth", by place, as `evaluate` returns them; and "difference", by place and metric, claim minus truth as
        {"value", "low", "high"} in -1..1, or None where either is undefined. Places: each site, `all`, and for claim
        and truth the `mean` over sites.

    Raises:
        RunError: If the split does not leak, or an arm is not finished.
    """
    if settings.split == "groups":
        raise RunError(
            f"{out} was split by group, so nothing leaks.",
            "Run it again with --set split=images or --set split=balanced-images, in another --out.",
        )
    found: dict[str, Any] = {}
    for name in dict.fromkeys(arm.name for arm in arms):
        seeds = [arm for arm in arms if arm.name == name]
        for arm in seeds:
            if not arm.folder.finished:
                raise RunError(f"{arm.folder.path} is not finished.", "Finish the run with --resume.")
        claim = [score_arm(arm, settings, sites) for arm in seeds]
        truth = [score_held_out(arm, settings, sites) for arm in seeds]
        found[name] = {
            "claim": summaries(measure_arm([claim], list(sites), settings)),
            "truth": summaries(measure_arm([truth], list(sites), settings)),
            "difference": {
                place: difference(_select(claim, place), _select(truth, place), settings.bootstrap, settings.draw_seed)
                for place in (*sites, "all")
            },
        }
    return {
        "split": settings.split,
        "leaked": {name: leaked_rows(site) for name, site in sites.items()},
        "arms": found,
    }


def _select(runs: Sequence[Predictions], place: str) -> list[Predictions]:
    """Select the rows of a site from the predictions of each seed, or of `all` sites."""
    return list(runs) if place == ALL else [run.select(place) for run in runs]


def leaked_rows(site: Site) -> dict[str, int]:
    """Count the test rows that leak from training.

    Returns:
        "test_rows": all of them; "copies": those that equal a training row in every pixel, at the run's image size;
        "same_group": those that share a group with a training row.
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
    """Compare a model with itself on other rows: accuracy, macro_f1 and auc of `claim` minus those of `truth`.

    Args:
        claim: Predictions of each training seed, over the same rows.
        truth: The same over other rows, which share no group with those of `claim`.
        draws: Bootstrap draws of groups within sites, at least 1.
        seed: The seed of the draws.

    Returns:
        For each metric {"value", "low", "high"} in -1..1, or None if either side's rows do not define it.
    """
    (value, drawn), (other, other_drawn) = (
        _measure(runs, draws, derive_seed(seed, side)) for runs, side in ((claim, "claim"), (truth, "truth"))
    )
    return {name: summarise(value[name] - other[name], drawn[name] - other_drawn[name]) for name in COMPARED}


def _measure(runs: Sequence[Predictions], draws: int, seed: int) -> tuple[dict[str, FloatArray], dict[str, FloatArray]]:
    """Compute each compared metric on all rows [1] and for each draw [B], as means over training seeds."""
    weights = draw_weights(runs[0].groups, runs[0].sites, draws, seed)
    once = np.ones((1, weights.shape[1]), dtype=np.uint8)
    points = [weighted_metrics(run.labels, run.probabilities, once) for run in runs]
    drawn = [weighted_metrics(run.labels, run.probabilities, weights) for run in runs]
    return (
        {name: np.mean([point[name] for point in points], axis=0) for name in COMPARED},
        {name: np.mean([draw[name] for draw in drawn], axis=0) for name in COMPARED},
    )
