"""Calibrate the trained arms of a comparison on validation rows, and measure the result on test rows."""

from collections.abc import Mapping
from typing import Any

from fedbus.evaluation.calibrated import Runs, measure_calibration
from fedbus.evaluation.calibration import Calibration, calibrate
from fedbus.evaluation.net_benefit import THRESHOLDS
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import ALL
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from simulations.arm import Arm
from simulations.scoring import score_validation


def calibrate_arm(arm: Arm, settings: Settings, sites: Mapping[str, Site]) -> Calibration:
    """Calibrate an arm on the validation rows of the sites that it was trained at, each predicted by its own model."""
    rows = score_validation(arm, settings, sites)
    return calibrate([rows.select(name) for name in arm.trained_at(sites)], settings.threshold)


def measure_calibrations(
    settings: Settings, sites: Mapping[str, Site], runs: Mapping[str, list[tuple[Arm, Predictions]]]
) -> dict[str, Any] | None:
    """Build the entry "calibration" of `results.json`.

    Args:
        settings: Settings of the run.
        sites: The prepared sites, by name.
        runs: For each arm's name, one pair (arm, predictions on the test rows) per seed.

    Returns:
        "rule", "thresholds" (of the decision curves) and "arms": by name "fitted", the calibration of each seed without
        its counts, and "places": by test set what `measure_calibration` returns. A site's own model is measured at its
        site, every other arm at `all` sites and at each. None if the weights are elsewhere.
    """
    arms = [arm for pairs in runs.values() for arm, _ in pairs]
    if not all(arm.blended or arm.has_weights for arm in arms):
        return None
    return {
        "rule": settings.threshold,
        "thresholds": THRESHOLDS.tolist(),
        "arms": {name: _measure_arm(pairs, settings, sites) for name, pairs in runs.items()},
    }


def _measure_arm(pairs: list[tuple[Arm, Predictions]], settings: Settings, sites: Mapping[str, Site]) -> dict[str, Any]:
    fitted = [calibrate_arm(arm, settings, sites) for arm, _ in pairs]
    names = pairs[0][0].trained_at(sites)
    places = names if len(names) < len(sites) else [ALL, *names]

    def at(place: str) -> Runs:
        chosen = [rows if place == ALL else rows.select(place) for _, rows in pairs]
        return list(zip(chosen, fitted, strict=True))

    return {
        "fitted": [
            {"seed": arm.seed, **found.model_dump(exclude={"counts", "rule"})}
            for (arm, _), found in zip(pairs, fitted, strict=True)
        ],
        "places": {place: measure_calibration(at(place), settings.bootstrap, settings.draw_seed) for place in places},
    }
