"""The report of a run between hospitals: the files of a simulation's, from what the hub holds: counts and metrics."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.site_scores import SiteScores, mean_over_seeds, pool_sites
from fedbus.reports.comparison.results import assemble, write_results
from fedbus.runs.checkpoint import ArmFolder, arm_folder
from fedbus.settings.schema import Settings
from server.hub.registrations import read_registrations


def write_hub_report(out: Path, settings: Settings, *, phantoms: bool) -> Path:
    """Write `results.json`, `report.html`, `headline.png` and `table.md` of a run whose federated arms are finished.

    Args:
        out: the run folder: its environment, what the sites said of themselves, the digests of its start weights, and
            its arms with what the sites said of the models that were kept.
        settings: the settings.
        phantoms: whether the pictures are synthetic.

    Returns:
        The path of the report page.

    Raises:
        RunError: no site scored an arm, its scores can't be used, a site's seeds are about different test rows, or the
            disk is full.
    """
    folders = {
        arm: [arm_folder(out, settings, arm, seed) for seed in settings.seeds] for arm in settings.federated_arms
    }
    registrations = read_registrations(out)
    scores = {arm: [_scores_in(folder) for folder in seeds] for arm, seeds in folders.items()}
    told = [seed for seeds in scores.values() for seed in seeds]
    there = [
        site for site in registrations if all(site in seed for seed in told)
    ]  # else arms would be compared on other rows
    if not there:
        raise RunError("No site scored every model that was kept.", "Let the sites join, and run it again.")
    results = assemble(
        settings,
        out,
        folders,
        phantoms=phantoms,
        sites={name: _facts_of(registration) for name, registration in registrations.items()},
        arms={arm: _everywhere(seeds, there, settings) for arm, seeds in scores.items()},
        differences=[],  # paired ones need the predictions of both arms
    )
    return write_results(results, {arm: seeds[0].read_history() for arm, seeds in folders.items()}, {}, out)


def _facts_of(registration: Mapping[str, Any]) -> dict[str, Any]:
    """What the results say of a hospital, from its introduction (`fedbus.transport.messages.Hello`): counts."""
    splits = {split: dict(zip(CLASSES, counts, strict=True)) for split, counts in registration["splits"].items()}
    return {
        "images": sum(sum(counts.values()) for counts in splits.values()),
        "patients": registration["patients"] or None,
        "groups": registration["groups"],
        "dropped_images": registration["dropped"],
        "splits": splits,
        "balanced": dict(zip(CLASSES, registration["balanced"], strict=True)),
    }


def _scores_in(folder: ArmFolder) -> dict[str, SiteScores]:
    """What the sites said of the model that one seed kept."""
    return {site: SiteScores.from_metrics(found) for site, found in folder.read_facts()["site_scores"].items()}


def _everywhere(seeds: Sequence[Mapping[str, SiteScores]], there: Sequence[str], settings: Settings) -> dict[str, Any]:
    """An arm's metrics at each of the sites, and on `all` of their rows."""
    places = {site: mean_over_seeds([scores[site].metrics for scores in seeds]) for site in there}
    pooled = [
        pool_sites({site: scores[site] for site in there}, settings.bootstrap, settings.draw_seed) for scores in seeds
    ]
    return places | {"all": mean_over_seeds(pooled)}
