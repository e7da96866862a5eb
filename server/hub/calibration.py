"""The calibration of a deployed run for its report, from what the hub and the sites recorded about every arm."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedbus.evaluation.calibrated import FIGURES
from fedbus.evaluation.net_benefit import THRESHOLDS
from fedbus.evaluation.operating_point import FIGURES as POINT_FIGURES
from fedbus.evaluation.site_calibration import WHEN
from fedbus.settings.schema import Settings
from server.hub.figures import Facts, ModelFigures


def gather_calibration(
    facts: Mapping[str, Sequence[Facts]], figures: Mapping[str, Sequence[ModelFigures]], settings: Settings
) -> dict[str, Any] | None:
    """Build the entry "calibration" of `results.json`, in the form of `simulations.calibration.measure_calibrations`.

    Args:
        facts: By arm, what was recorded about each seed.
        figures: By arm, the figures of the seeds that count.
        settings: Settings of the run.

    Returns:
        The entry; None for a run of an earlier version, which did not calibrate.
    """
    found = {arm: [each.calibration for each in seeds if each.calibration] for arm, seeds in figures.items()}
    if any(len(found[arm]) < len(seeds) for arm, seeds in figures.items()):
        return None
    return {
        "rule": settings.threshold,
        "thresholds": THRESHOLDS.tolist(),
        "arms": {
            arm: {
                "fitted": _fitted(facts[arm], settings),
                "places": {place: _mean([each[place] for each in seeds]) for place in seeds[0]},
            }
            for arm, seeds in found.items()
        },
    }


def _fitted(seeds: Sequence[Facts], settings: Settings) -> list[dict[str, Any]]:
    return [
        {"seed": seed, **{key: each["calibration"][key] for key in ("temperature", "rows", "threshold", "reason")}}
        for seed, each in zip(settings.seeds, seeds, strict=True)
    ]


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
