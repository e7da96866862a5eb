"""What the calibration in model folders does on an outside dataset; nothing is fitted to the dataset."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedbus.evaluation.calibrated import measure_calibration
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.net_benefit import THRESHOLDS
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_mean import ALL
from fedbus.external.models import GivenModel
from fedbus.settings.schema import Settings


def measure_calibrations(
    models: Sequence[GivenModel], predictions: Mapping[str, Sequence[Predictions]], settings: Settings
) -> dict[str, Any] | None:
    """Build the entry "calibration" of `evaluation.json`, in the form of a comparison's results.

    All thresholds are chosen by the rule of the first model, from each model's own validation images.

    Args:
        models: The models.
        predictions: By model, the predictions of each seed, before calibration.
        settings: Bootstrap draws and their seed.

    Returns:
        See `simulations.calibration.measure_calibrations`; without the models of which a folder has no calibration.
        None if no model has one.
    """
    fitted = {model.name: [folder.facts.calibration for folder in model.seeds] for model in models}
    known = {name: [each for each in seeds if each] for name, seeds in fitted.items() if all(seeds)}
    if not known:
        return None
    rule = next(iter(known.values()))[0].rule
    seeds_of = {model.name: [folder.facts.seed for folder in model.seeds] for model in models}
    return {
        "rule": rule,
        "thresholds": THRESHOLDS.tolist(),
        "arms": {
            name: _measure(seeds_of[name], predictions[name], [_by_rule(each, rule) for each in found], settings)
            for name, found in known.items()
        },
    }


def _by_rule(calibration: Calibration, rule: str) -> Calibration:
    """The same calibration with the threshold of a rule, or without one where the rule does not allow it."""
    return Calibration.from_counts(calibration.temperature, calibration.counts, rule)


def _measure(
    seeds: Sequence[int], runs: Sequence[Predictions], fitted: Sequence[Calibration], settings: Settings
) -> dict[str, Any]:
    return {
        "fitted": [
            {"seed": seed, **found.model_dump(exclude={"counts", "rule"})}
            for seed, found in zip(seeds, fitted, strict=True)
        ],
        "places": {
            ALL: measure_calibration(list(zip(runs, fitted, strict=True)), settings.bootstrap, settings.draw_seed)
        },
    }
