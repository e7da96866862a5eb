"""The report of a deployed run: the files of a simulation's report, from the counts and metrics that the hub has."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.reports.comparison.results import assemble, write_results
from fedbus.runs.checkpoint import arm_folder
from fedbus.settings.schema import Settings
from server.hub.calibration import gather_calibration
from server.hub.figures import TOTALS, Facts, ModelFigures, figures_of_sites, figures_of_totals, mean_metrics
from server.hub.registrations import read_registrations


def write_hub_report(out: Path, settings: Settings, *, phantoms: bool) -> Path:
    """Write `results.json`, `report.html`, `headline.png` and `table.md` of a run whose federated arms are finished.

    Args:
        out: The run folder, with its environment, registrations, digests of the start weights, and the arms with
            each site's scores of the best model, or totals over the sites (secure aggregation).
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
    facts = {arm: [folder.read_facts() for folder in seeds] for arm, seeds in folders.items()}
    tested_at = _tested_at(facts, settings)
    if tested_at:
        figures = {arm: _from_totals(facts[arm], tested_at[arm], settings) for arm in facts}
    else:
        figures = _from_sites(facts, list(registrations), settings)
    results = assemble(
        settings,
        out,
        folders,
        phantoms=phantoms,
        sites={name: _site_facts(registration) for name, registration in registrations.items()},
        arms={arm: mean_metrics(seeds) for arm, seeds in figures.items()},
        differences=[],  # paired differences need the predictions of both arms, which stay at the sites
    )
    results["calibration"] = gather_calibration(facts, figures, settings)
    if tested_at:
        results["tested_at"] = tested_at
    return write_results(results, {arm: seeds[0].read_history() for arm, seeds in folders.items()}, {}, out)


def _from_sites(
    facts: Mapping[str, Sequence[Facts]], sites: Sequence[str], settings: Settings
) -> dict[str, list[ModelFigures]]:
    """Read each site's figures, of the sites that scored every model: otherwise arms would have different rows."""
    complete = [
        site for site in sites if all(site in seed["site_scores"] for seeds in facts.values() for seed in seeds)
    ]
    if not complete:
        raise RunError("No site scored the best model of every arm.", "Have the sites join, then run it again.")
    return {arm: [figures_of_sites(seed, complete, settings) for seed in seeds] for arm, seeds in facts.items()}


def _tested_at(facts: Mapping[str, Sequence[Facts]], settings: Settings) -> dict[str, dict[str, Any]]:
    """Name the sites and seeds whose totals count, by arm; empty if the hub has each site's own figures.

    Seeds that fewer sites tested are left out: their figures are of other images, and have no mean with the others.
    """
    if any(TOTALS not in seed for seeds in facts.values() for seed in seeds):
        return {}
    found = {}
    for arm, seeds in facts.items():
        most = max((seed[TOTALS]["sites"] for seed in seeds), key=len)
        counted = [number for number, seed in zip(settings.seeds, seeds, strict=True) if seed[TOTALS]["sites"] == most]
        found[arm] = {"sites": most, "seeds": counted}
    return found


def _from_totals(seeds: Sequence[Facts], tested_at: Mapping[str, Any], settings: Settings) -> list[ModelFigures]:
    numbered = zip(settings.seeds, seeds, strict=True)
    return [figures_of_totals(seed, settings) for number, seed in numbered if number in tested_at["seeds"]]


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
