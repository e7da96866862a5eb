"""Gather the cells' results into `study.json`: metrics, intervals, paired differences, and failed cells."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from fedbus.evaluation.evaluate import differences
from fedbus.evaluation.predictions import Predictions, join
from fedbus.reports.comparison.results import describe_weights, read_results, shown_settings
from fedbus.runs.checkpoint import arm_folder
from fedbus.settings.schema import STRATEGIES, Settings, tuned_from
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.site import open_site
from simulations.arm import list_arms
from simulations.results import score_everywhere, select_place
from simulations.studies.cell import Cell
from simulations.studies.grid import Grid
from simulations.studies.leakage import leakage_of
from simulations.studies.run_cells import Task

SCHEMA = 1
"""Version of `study.json`'s format; increased when older files can no longer be read."""

CellRuns = dict[str, list[Predictions]]
"""For each arm the predictions of each seed, all folds joined."""


def gather_study(
    grid: Grid,
    tasks: Mapping[str, Sequence[Task]],
    failures: Mapping[Path, str],
    environment: Mapping[str, Any],
    console: Console,
) -> dict[str, Any]:
    """Build the content of `study.json`.

    Args:
        grid: The study's grid.
        tasks: For each cell its tasks, one per fold.
        failures: The reason of each failure, by the task's folder.
        environment: Versions, machine and command.
        console: Shows a progress bar.
    """
    runs = {name: _runs(tasks[name]) for name in grid.cells if all(task.finished for task in tasks[name])}
    first = next((tasks[name][0].folder for name in runs), None)
    found = read_results(first) if first else {"sites": {}, "phantoms": not grid.shared.sites, "classes": []}
    scoring = track(grid.cells.items(), "intervals", console=console, transient=True)
    return {
        "schema": SCHEMA,
        "fedbus": environment["versions"]["fedbus"],
        "study": grid.name,
        "title": grid.title,
        "question": grid.question,
        "default": grid.default,
        "references": grid.references,
        "folds": len(tasks[grid.default]),
        "phantoms": found["phantoms"],
        "classes": found["classes"],
        "sites": found["sites"],
        "settings": shown_settings(grid.shared),
        "weights": describe_weights(grid.shared),
        "arms": list(dict.fromkeys(arm for arms in runs.values() for arm in arms)),
        "cells": {name: _cell(grid, cell, tasks[name], failures, runs) for name, cell in scoring},
        **environment,
    }


def _cell(
    grid: Grid, cell: Cell, tasks: Sequence[Task], failures: Mapping[Path, str], runs: Mapping[str, CellRuns]
) -> dict[str, Any]:
    reasons = [failures[task.folder] for task in tasks if task.folder in failures]
    state = "finished" if cell.name in runs else "failed" if reasons else "not run"
    facts: dict[str, Any] = {
        "settings": dict(cell.changes) | ({"weights-of": cell.weights_of} if cell.weights_of else {}),
        "state": state,
        "reason": "; ".join(reasons) or None,
        "folder": f"cells/{cell.name}",
        "seconds": None,
    }
    if state != "finished":
        return facts
    results = [read_results(task.folder) for task in tasks]
    mine, sites = runs[cell.name], list(results[0]["sites"])
    facts |= {
        "seconds": sum(sum(work["seconds"] for work in each["work"].values()) for each in results),
        "arms": {arm: score_everywhere(seeds, sites, cell.settings) for arm, seeds in mine.items()},
        "work": results[0]["work"],
        "validation": _validation(tasks),
    }
    if cell.settings.split != "groups":
        facts["leakage"] = leakage_of_cell(cell, tasks[0])
    elif cell.name != grid.default and grid.default in runs:
        facts["differences"] = _to_default(mine, runs[grid.default], sites, cell.settings)
    if grid.references in runs and cell.settings.split == "groups":
        facts["gap"] = _gap(mine, runs[grid.references], sites, cell.settings)
    return facts


def _runs(tasks: Sequence[Task]) -> CellRuns:
    """Read a cell's predictions on test rows; with all folds, every row of a dataset once."""
    found: CellRuns = {}
    settings = resolve_sites(tasks[0].cell.settings)
    for arm in list_arms(settings, tasks[0].folder):
        files = [arm_folder(task.folder, settings, arm.name, arm.seed).path / "predictions.csv" for task in tasks]
        found.setdefault(arm.name, []).append(join([Predictions.from_csv(path) for path in files]))
    return found


def _validation(tasks: Sequence[Task]) -> dict[str, Any]:
    """Return the validation score of the best round, of the first fold and seed: choices may rest on these."""
    found, settings = {}, resolve_sites(tasks[0].cell.settings)
    for arm in list_arms(settings, tasks[0].folder):
        best, history = arm.folder.read_facts()["best_round"], arm.folder.read_history()
        lines = [line for line in history if line["round"] == best and "validation" in line]
        if lines and arm.name not in found:
            score = lines[0]["validation"]
            found[arm.name] = {"best_round": best} | {key: score[key] for key in ("accuracy", "macro_f1", "loss")}
    return found


def _to_default(mine: CellRuns, default: CellRuns, sites: list[str], settings: Settings) -> dict[str, Any]:
    """Compare each arm with the default cell's: the arm of the same name, or the only federated arm of both."""
    found = {}
    for arm in mine:
        partner = arm if arm in default else _only_federated(default) if arm == _only_federated(mine) else None
        if partner:
            found[arm] = _differences(mine[arm], default[partner], ["all", *sites], settings)
    return found


def _only_federated(runs: CellRuns) -> str | None:
    names = [arm for arm in runs if arm in STRATEGIES]
    return names[0] if len(names) == 1 else None


def _gap(mine: CellRuns, references: CellRuns, sites: list[str], settings: Settings) -> dict[str, Any]:
    """Compare each federated arm with the centralised one everywhere, and with each local model at its own site."""
    found: dict[str, Any] = {}
    for arm in (name for name in mine if (tuned_from(name) or name) in STRATEGIES):
        pairs = {"centralised": ["all", *sites]} | {f"local-{site}": [site] for site in sites}
        found[arm] = {
            reference: _differences(mine[arm], references[reference], places, settings)
            for reference, places in pairs.items()
            if reference in references
        }
    return found


def _differences(
    ours: list[Predictions], theirs: list[Predictions], places: Sequence[str], settings: Settings
) -> dict[str, Any]:
    return {
        place: differences(
            select_place(ours, place), select_place(theirs, place), settings.bootstrap, settings.draw_seed
        )
        for place in places
    }


def leakage_of_cell(cell: Cell, task: Task) -> dict[str, Any]:
    """Measure how much a cell's split leaks, on the first fold."""
    settings = resolve_sites(cell.settings)
    sites = {name: open_site(task.folder, name) for name in settings.sites}
    return leakage_of(settings, task.folder, sites, list_arms(settings, task.folder))
