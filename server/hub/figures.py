"""The figures of one trained model (one seed) by test set, from what the hub recorded about its test.

The test sets are every site and all their rows. Under secure aggregation, the hub has only totals, and the test sets
are all rows and the mean of the sites.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedbus.evaluation.measured import COMPARED
from fedbus.evaluation.site_calibration import SiteCalibration, pool_calibration
from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.evaluation.site_scores import SiteScores, mean_figures, mean_over_seeds, pool_sites
from fedbus.evaluation.totals import calibrate_totals, score_totals
from fedbus.settings.schema import Settings

TOTALS = "totals"
"""Key of the totals among the facts of a finished arm; see `fedbus.evaluation.totals.read_totals`."""

Facts = Mapping[str, Any]
"""What the hub recorded about a finished arm and seed."""


@dataclass(frozen=True)
class ModelFigures:
    """The figures of one trained model, each by test set.

    Attributes:
        metrics: As `fedbus.evaluation.evaluate.evaluate` returns them.
        calibration: As `fedbus.evaluation.calibrated.measure_calibration` returns them; None for a run of an earlier
            version, which did not calibrate.
    """

    metrics: dict[str, dict[str, Any]]
    calibration: dict[str, dict[str, Any]] | None


def figures_of_sites(facts: Facts, sites: Sequence[str], settings: Settings) -> ModelFigures:
    """Read each site's own figures, and compute those on all their rows.

    Args:
        facts: The facts of a finished arm and seed.
        sites: The sites that count; each has scored the model.
        settings: Settings of the run.

    Raises:
        RunError: If a site's scores are not usable.
    """
    draws, seed = settings.bootstrap, settings.draw_seed
    scores = {site: SiteScores.from_metrics(facts["site_scores"][site]) for site in sites}
    metrics = {**{site: found.metrics for site, found in scores.items()}, ALL: pool_sites(scores, draws, seed)}
    if not facts.get("calibration"):
        return ModelFigures(metrics, None)
    found = {
        site: SiteCalibration.from_metrics(facts["site_calibrations"][site] | facts["site_scores"][site])
        for site in sites
    }
    pooled = pool_calibration(found, draws, seed)
    return ModelFigures(metrics, {ALL: pooled, **{site: each.measured for site, each in found.items()}})


def figures_of_totals(facts: Facts, settings: Settings) -> ModelFigures:
    """Compute the figures from totals over the sites: on all their rows, and as the mean of the sites.

    Args:
        facts: The facts of a finished arm and seed.
        settings: Settings of the run.
    """
    totals, draws, seed = facts[TOTALS], settings.bootstrap, settings.draw_seed
    return ModelFigures(score_totals(totals, draws, seed), {ALL: calibrate_totals(totals, draws, seed)})


def mean_metrics(seeds: Sequence[ModelFigures]) -> dict[str, Any]:
    """Average metrics over training seeds, by test set.

    Raises:
        RunError: If the seeds have different test rows.
    """
    return {place: _mean_at(place, [each.metrics[place] for each in seeds]) for place in seeds[0].metrics}


def _mean_at(place: str, seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if place != MEAN or len(seeds) == 1:
        return mean_over_seeds(seeds)
    return {**seeds[0], **{name: mean_figures([each[name] for each in seeds]) for name in COMPARED}}
