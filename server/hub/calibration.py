"""The calibration of a deployed run for its report, from what the hub and the sites recorded about every arm."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedbus.evaluation.calibrated import FIGURES
from fedbus.evaluation.net_benefit import THRESHOLDS
from fedbus.evaluation.operating_point import FIGURES as POINT_FIGURES
from fedbus.evaluation.site_calibration import WHEN, SiteCalibration, pool_calibration
from fedbus.evaluation.site_mean import ALL
from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.schema import Settings


def gather_calibration(
    folders: Mapping[str, Sequence[ArmFolder]], sites: Sequence[str], settings: Settings
) -> dict[str, Any] | None:
    """Build the entry "calibration" of `results.json`, in the form of `simulations.calibration.measure_calibrations`.

    Args:
        folders: By arm, one finished folder per seed.
        sites: The sites that scored every model.
        settings: Settings of the run.

    Returns:
        The entry; None for a run of an earlier version, which did not calibrate.
    """
    facts = {arm: [folder.read_facts() for folder in seeds] for arm, seeds in folders.items()}
    if not all(each.get("calibration") for seeds in facts.values() for each in seeds):
        return None
    return {
        "rule": settings.threshold,
        "thresholds": THRESHOLDS.tolist(),
        "arms": {arm: _gather_arm(seeds, sites, settings) for arm, seeds in facts.items()},
    }


def _gather_arm(seeds: Sequence[Mapping[str, Any]], sites: Sequence[str], settings: Settings) -> dict[str, Any]:
    fitted = [
        {"seed": seed, **{key: each["calibration"][key] for key in ("temperature", "rows", "threshold", "reason")}}
        for seed, each in zip(settings.seeds, seeds, strict=True)
    ]
    found = [
        {
            site: SiteCalibration.from_metrics(each["site_calibrations"][site] | each["site_scores"][site])
            for site in sites
        }
        for each in seeds
    ]
    pooled = [pool_calibration(each, settings.bootstrap, settings.draw_seed) for each in found]
    by_site = {site: _mean([each[site].measured for each in found]) for site in sites}
    return {"fitted": fitted, "places": {ALL: _mean(pooled), **by_site}}


def _mean(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Average over training seeds; bounds of intervals are averaged as in `site_scores.mean_over_seeds`."""
    if len(seeds) == 1:
        return seeds[0]
    points = [each["operating_point"] for each in seeds]
    return {
        **{when: _mean_figures([each[when] for each in seeds]) for when in WHEN},
        "operating_point": None
        if None in points
        else {name: _mean_of([point[name] for point in points]) for name in POINT_FIGURES}
        | {"cells": np.sum([point["cells"] for point in points], axis=0).tolist()},
        "decision_curve": {
            name: np.mean([each["decision_curve"][name] for each in seeds], axis=0).tolist()
            for name in ("model", "all")
        },
        "images": seeds[0]["images"],
    }


def _mean_figures(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    bins = [part["reliability"] for part in parts]
    together = {name: np.sum([each[name] for each in bins], axis=0).tolist() for name in bins[0]}
    return {**{name: _mean_of([part[name] for part in parts]) for name in FIGURES}, "reliability": together}


def _mean_of(figures: Sequence[dict[str, float] | None]) -> dict[str, float] | None:
    known = [figure for figure in figures if figure is not None]
    if len(known) < len(figures):
        return None
    means = {end: float(np.mean([figure[end] for figure in known])) for end in known[0]}
    return means | {"spread": float(np.std([figure["value"] for figure in known], ddof=1))}
