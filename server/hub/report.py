"""The report of a deployed run: the files of a simulation's report, from the counts and metrics that the hub has."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.site_scores import SiteScores, mean_over_seeds, pool_sites
from fedbus.reports.comparison.results import assemble, write_results
from fedbus.runs.checkpoint import ArmFolder, arm_folder
from fedbus.settings.schema import Settings
from server.hub.calibration import gather_calibration
from server.hub.registrations import read_registrations


def write_hub_report(out: Path, settings: Settings, *, phantoms: bool) -> Path:
    """Write `results.json`, `report.html`, `headline.png` and `table.md` of a run whose federated arms are finished.

    Args:
        out: The run folder, with its environment, registrations, digests of the start weights, and the arms with
            each site's scores of the best model.
        settings: The run's settings.
        phantoms: Whether the images are synthetic.

    Returns:
        The path of the report page.

    Raises:
        RunError: If no site scored every arm, a site's scores are not usable or its seeds have different test rows, or
            the disk is full.
    """
    folders = {
        arm: [arm_folder(out, settings, arm, seed) for seed in settings.seeds] for arm in settings.federated_arms
    }
    registrations = read_registrations(out)
    scores = {arm: [_read_scores(folder) for folder in seeds] for arm, seeds in folders.items()}
    # Only sites that scored every model: otherwise arms would be compared on different rows.
    complete = [site for site in registrations if all(site in seed for seeds in scores.values() for seed in seeds)]
    if not complete:
        raise RunError("No site scored the best model of every arm.", "Have the sites join, then run it again.")
    calibration = gather_calibration(folders, complete, settings)
    results = assemble(
        settings,
        out,
        folders,
        phantoms=phantoms,
        sites={name: _site_facts(registration) for name, registration in registrations.items()},
        arms={arm: _arm_metrics(seeds, complete, settings) for arm, seeds in scores.items()},
        differences=[],  # paired differences need the predictions of both arms, which stay at the sites
    )
    results["calibration"] = calibration
    return write_results(results, {arm: seeds[0].read_history() for arm, seeds in folders.items()}, {}, out)


def _site_facts(registration: Mapping[str, Any]) -> dict[str, Any]:
    """Convert a registration (`fedbus.transport.messages.Registration`) into the facts of a site in the results."""
    splits = {split: dict(zip(CLASSES, counts, strict=True)) for split, counts in registration["splits"].items()}
    return {
        "images": sum(sum(counts.values()) for counts in splits.values()),
        "patients": registration["patients"] or None,
        "groups": registration["groups"],
        "dropped_images": registration["dropped"],
        "splits": splits,
        "balanced": dict(zip(CLASSES, registration["balanced"], strict=True)),
    }


def _read_scores(folder: ArmFolder) -> dict[str, SiteScores]:
    """Read each site's scores of the best model of one arm and seed."""
    return {site: SiteScores.from_metrics(found) for site, found in folder.read_facts()["site_scores"].items()}


def _arm_metrics(seeds: Sequence[Mapping[str, SiteScores]], sites: Sequence[str], settings: Settings) -> dict[str, Any]:
    """Compute an arm's metrics at each of the sites, and on `all` of their rows."""
    by_site = {site: mean_over_seeds([scores[site].metrics for scores in seeds]) for site in sites}
    pooled = [
        pool_sites({site: scores[site] for site in sites}, settings.bootstrap, settings.draw_seed) for scores in seeds
    ]
    return by_site | {"all": mean_over_seeds(pooled)}
