"""`results.json` and the files made from it: the same for a simulation and for a run between sites."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedbus.classes import CLASSES
from fedbus.reports.comparison.few_sites import few_sites
from fedbus.reports.comparison.page import Examples, Samples, write_report
from fedbus.reports.comparison.tables import markdown_table
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.folder import START_FILE
from fedbus.runs.old_names import rename_old_facts, rename_old_site_facts
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.schema import Settings
from fedbus.settings.track import tracker_kind
from fedbus.system.files import read_json, write_json, write_text

if TYPE_CHECKING:
    from fedbus.reports.comparison.curves import Histories  # loads matplotlib

RESULTS_FILE = "results.json"


def assemble(
    settings: Settings,
    out: Path,
    folders: Mapping[str, Sequence[ArmFolder]],
    *,
    phantoms: bool,
    sites: Mapping[str, dict[str, Any]],
    arms: Mapping[str, dict[str, Any]],
    differences: Sequence[dict[str, Any]],
    claims: Mapping[str, dict[str, Any]] | None = None,
    site_known: Mapping[str, dict[str, Any]] | None = None,
    subgroups: Mapping[str, dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Build the content of `results.json`.

    Args:
        settings: Settings of the run.
        out: Run folder.
        folders: By arm, one finished folder per seed.
        phantoms: Whether the images are synthetic.
        sites: Facts about each site: source, counts by split and class, digests.
        arms: By arm, its metrics at each site and at `all`, as `fedbus.evaluation.evaluate.evaluate` returns them; in a
            simulation also their `mean` over sites.
        differences: Paired differences between arms.
        claims: By federated arm, what `fedbus.evaluation.claims.claims` returns; None between sites.
        site_known: The metrics of `fedbus.evaluation.site_known`, by place; None between sites.
        subgroups: By site with attributes what `fedbus.evaluation.subgroups` returns; None between sites.
    """
    environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    return {
        "fedbus": environment["versions"]["fedbus"],
        "phantoms": phantoms,
        "classes": list(CLASSES),
        "sites": dict(sites),
        "arms": dict(arms),
        "differences": list(differences),
        "claims": dict(claims or {}),
        "site_known": site_known,
        "subgroups": dict(subgroups or {}),
        "work": {name: _work(seeds) for name, seeds in folders.items()},
        "federation": {
            name: {"rounds": [_without_error_texts(line) for line in seeds[0].read_facts()["rounds"]]}
            for name, seeds in folders.items()
            if name in STRATEGIES
        },
        "settings": shown_settings(settings),
        "weights": f"{describe_weights(settings)}; SHA-256 of the start {_start_digests(out)}",
        **{key: environment[key] for key in ("created", "command", "versions", "machine")},
    }


def write_results(
    results: dict[str, Any], histories: "Histories", samples: Samples, out: Path, examples: Examples | None = None
) -> Path:
    """Write `results.json`, `report.html`, `headline.png` and `table.md`, each complete or not at all.

    Args:
        results: What `assemble` returned.
        histories: The rounds of each arm; arms may be missing.
        samples: Thumbnails by site and class; may be empty.
        out: Run folder.
        examples: Test images with the maps of the arms; None: none are shown.

    Returns:
        The path of the report.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    from fedbus.reports.comparison.figures import headline_figure_png  # loads matplotlib, which only a report needs

    write_json(out / RESULTS_FILE, results)
    report = out / "report.html"
    write_report(results, histories, samples, report, examples)
    headline_figure_png(few_sites(results), out / "headline.png")
    write_text(out / "table.md", markdown_table(results))
    return report


def read_results(out: Path) -> dict[str, Any]:
    """Read `results.json` of a run folder; files of version 0.1 are returned with their present keys.

    Raises:
        RunError: If the file is missing or damaged.
    """
    results = read_json(out / RESULTS_FILE)
    results["sites"] = rename_old_site_facts(results["sites"])
    results["work"] = {arm: rename_old_facts(facts) for arm, facts in results.get("work", {}).items()}
    return results


def shown_settings(settings: Settings) -> dict[str, Any]:
    """Return the settings without the paths of datasets, cache and weights, since reports are shared.

    The address of a tracking server is left out too.
    """
    sources = {name: {"reader": source.reader} for name, source in settings.sites.items()}
    hidden = {
        "cache": None,
        "weights": describe_weights(settings),
        "sites": sources or None,
        "track": tracker_kind(settings.track) or None,
    }
    return {key: value for key, value in (settings.as_dict() | hidden).items() if value is not None}


def describe_weights(settings: Settings) -> str:
    """Describe the weights that the arms start from."""
    if settings.weights == "none":
        return "random, the same in every arm"
    return f"{settings.model} of timm, ImageNet" if settings.weights == "imagenet" else Path(settings.weights).name


def _without_error_texts(line: dict[str, Any]) -> dict[str, Any]:
    """Remove a site's own error text, which may name files; the arm's history keeps it."""
    reasons = {
        site: reason.partition(":")[0] if reason.startswith("failed:") else reason
        for site, reason in line["refused"].items()
    }
    return line | {"refused": reasons}


def _start_digests(out: Path) -> str:
    digests = json.loads((out / START_FILE).read_text(encoding="utf-8"))
    return ", ".join(f"{digest[:16]} (seed {seed})" for seed, digest in digests.items())


def _work(seeds: Sequence[ArmFolder]) -> dict[str, Any]:
    facts = [folder.read_facts() for folder in seeds]
    return {
        "steps": facts[0]["steps"],
        "seconds": float(np.mean([f["seconds"] for f in facts])),
        "best_round": facts[0]["best_round"],
        **({"epsilon": facts[0]["epsilon"]} if "epsilon" in facts[0] else {}),
    }
