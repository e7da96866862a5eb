"""`results.json` and the files drawn from it: alike for a simulation and for a run between hospitals."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fedbus.classes import CLASSES
from fedbus.reports.comparison.tables import markdown_table
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.folder import START_FILE
from fedbus.settings.schema import STRATEGIES, Settings
from fedbus.system.files import write_json, write_text

if TYPE_CHECKING:
    from fedbus.reports.comparison.curves import Histories
    from fedbus.reports.comparison.page import Samples

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
) -> dict[str, Any]:
    """Build the content of `results.json`.

    Args:
        settings: the settings.
        out: the run folder.
        folders: by arm, one finished folder a seed.
        phantoms: whether the pictures are synthetic.
        sites: what is known of each hospital.
        arms: by arm, its metrics at each hospital and at `all`, as `fedbus.evaluation.evaluate.evaluate` gives them.
        differences: paired differences between arms.
    """
    environment = json.loads((out / "environment.json").read_text(encoding="utf-8"))
    return {
        "fedbus": environment["versions"]["fedbus"],
        "phantoms": phantoms,
        "classes": list(CLASSES),
        "sites": dict(sites),
        "arms": dict(arms),
        "differences": list(differences),
        "work": {name: _work(seeds) for name, seeds in folders.items()},
        "federation": {
            name: {"rounds": [_without_error_texts(line) for line in seeds[0].read_facts()["rounds"]]}
            for name, seeds in folders.items()
            if name in STRATEGIES
        },
        "settings": shown_settings(settings),
        "weights": f"{describe_weights(settings)}; SHA-256 of the start {_start_digests(out)}",
        **environment,
    }


def write_results(results: dict[str, Any], histories: "Histories", samples: "Samples", out: Path) -> Path:
    """Write `results.json`, `report.html`, `headline.png` and `table.md`, each whole or not at all.

    Args:
        results: what `assemble` gave.
        histories: the rounds of each arm; arms may be missing.
        samples: thumbnails by site and class, PNG bytes; may be empty.
        out: the run folder.

    Returns:
        The path of the report page.

    Raises:
        RunError: the disk is full or the folder can't be written.
    """
    from fedbus.reports.comparison.figures import headline_figure_png  # Matplotlib takes long to import
    from fedbus.reports.comparison.page import write_report

    write_json(out / RESULTS_FILE, results)
    report = out / "report.html"
    write_report(results, histories, samples, report)
    headline_figure_png(results, out / "headline.png")
    write_text(out / "table.md", markdown_table(results))
    return report


def shown_settings(settings: Settings) -> dict[str, Any]:
    """The settings without the places of archives, cache and weights: reports are passed on."""
    sources = {name: {"reader": source.reader} for name, source in settings.sites.items()}
    hidden = {"cache": None, "weights": describe_weights(settings), "sites": sources or None}
    return {key: value for key, value in (settings.as_dict() | hidden).items() if value is not None}


def describe_weights(settings: Settings) -> str:
    """What the arms start from, in words."""
    if settings.weights == "none":
        return "random, the same in every arm"
    return f"{settings.model} of timm, ImageNet" if settings.weights == "imagenet" else Path(settings.weights).name


def _without_error_texts(line: dict[str, Any]) -> dict[str, Any]:
    """A site's own error may name files; it stays in the arm's history, and the report says that there was one."""
    said = {site: why.partition(":")[0] if why.startswith("failed:") else why for site, why in line["refused"].items()}
    return line | {"refused": said}


def _start_digests(out: Path) -> str:
    digests = json.loads((out / START_FILE).read_text(encoding="utf-8"))
    return ", ".join(f"{digest[:16]} (seed {seed})" for seed, digest in digests.items())


def _work(seeds: Sequence[ArmFolder]) -> dict[str, Any]:
    facts = [folder.read_facts() for folder in seeds]
    return {
        "steps": facts[0]["steps"],
        "seconds": float(np.mean([f["seconds"] for f in facts])),
        "best_round": facts[0]["best_round"],
    }
