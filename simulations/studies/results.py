"""Gather the cells' results into `study.json`: metrics, intervals, paired differences, claims, and failed cells.

The file is made to be published: it has counts and metrics, but no folders, no file names and no patients.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track

from fedbus.evaluation.claims import claims
from fedbus.evaluation.measured import Measured
from fedbus.evaluation.predictions import Predictions
from fedbus.reports.comparison.results import describe_weights, read_results, shown_settings
from fedbus.runs.checkpoint import arm_folder
from fedbus.settings.arms import STRATEGIES, is_federated
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.site import open_site
from simulations.arm import list_arms
from simulations.results import gap, measure_arms, measure_site_known, summaries
from simulations.studies.cell import Cell
from simulations.studies.grid import Grid
from simulations.studies.leakage import leakage_of
from simulations.studies.membership import membership_of_cell
from simulations.studies.redact import public_settings, site_counts, without_folders
from simulations.studies.run_cells import Task

SCHEMA = 1
"""Version of `study.json`'s format; increased when older files can no longer be read."""

CellRuns = dict[str, list[list[Predictions]]]
"""For each arm and fold the predictions of each seed."""

CellFigures = dict[str, dict[str, Measured]]
"""For each arm and place its metrics."""


@dataclass(frozen=True)
class FinishedCells:
    """The finished cells of a study, measured when their figures are first needed.

    Attributes:
        runs: Predictions by cell.
        sites: The sites' names.
        kept: Cells that others are compared with; their figures are measured once.
    """

    runs: Mapping[str, CellRuns]
    sites: Sequence[str]
    kept: Sequence[str]
    _figures: dict[tuple[str, int], CellFigures] = field(default_factory=dict)

    def measure(self, name: str, settings: Settings) -> CellFigures:
        """Measure a cell on the draws that these settings request, at each site, on `all` rows and as `mean`."""
        key = (name, settings.bootstrap)
        if key in self._figures:
            return self._figures[key]
        found = measure_arms(self.runs[name], self.sites, settings)
        if name in self.kept:
            self._figures[key] = found
        return found


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
    runs = {name: _read_runs(tasks[name]) for name in grid.cells if all(task.finished for task in tasks[name])}
    first = next((tasks[name][0].folder for name in runs), None)
    found: dict[str, Any] = (
        read_results(first) if first else {"sites": {}, "phantoms": not grid.shared.sites, "classes": []}
    )
    finished = FinishedCells(runs, list(found["sites"]), (grid.default, grid.references))
    scoring = track(grid.cells.items(), "intervals", console=console, transient=True)
    cells = {name: _cell(grid, cell, tasks[name], failures, finished) for name, cell in scoring}
    return {
        "schema": SCHEMA,
        "fedbus": environment["versions"]["fedbus"],
        "study": grid.name,
        "title": grid.title,
        "question": grid.question,
        "default": grid.default,
        "references": grid.references,
        "folds": len(tasks[grid.default]),
        "tested_folds": [task.cell.settings.fold for task in tasks[grid.default]],
        "phantoms": found["phantoms"],
        "classes": found["classes"],
        "sites": site_counts(found["sites"]),
        "settings": public_settings(shown_settings(grid.shared)),
        "weights": describe_weights(grid.shared),
        "arms": list(dict.fromkeys(arm for cell in cells.values() for arm in cell.get("arms", {}))),
        "site_known": _site_known(grid, tasks[grid.default], finished),
        "cells": cells,
        **environment,
    }


def _cell(
    grid: Grid, cell: Cell, tasks: Sequence[Task], failures: Mapping[Path, str], finished: FinishedCells
) -> dict[str, Any]:
    reasons = [without_folders(failures[task.folder]) for task in tasks if task.folder in failures]
    state = "finished" if cell.name in finished.runs else "failed" if reasons else "not run"
    facts: dict[str, Any] = {
        "settings": public_settings(cell.changes) | ({"weights-of": cell.weights_of} if cell.weights_of else {}),
        "state": state,
        "reason": "; ".join(reasons) or None,
        "folder": f"cells/{cell.name}",
        "seconds": None,
    }
    if state != "finished":
        return facts
    results = [read_results(task.folder) for task in tasks]
    mine = finished.measure(cell.name, cell.settings)
    facts |= {
        "seconds": sum(sum(work["seconds"] for work in each["work"].values()) for each in results),
        "arms": {arm: summaries(places) for arm, places in mine.items()},
        "work": results[0]["work"],
        "validation": _validation(tasks),
        "membership": membership_of_cell(cell.settings, tasks, finished.runs[cell.name], finished.sites),
    }
    if cell.settings.split != "groups":
        facts["leakage"] = leakage_of_cell(cell, tasks[0])
    elif cell.name != grid.default and grid.default in finished.runs:
        facts["differences"] = _to_default(mine, finished.measure(grid.default, cell.settings))
    if grid.references in finished.runs and cell.settings.split == "groups":
        references = finished.measure(grid.references, cell.settings)
        facts["gap"] = {arm: gap(mine[arm], references, finished.sites) for arm in mine if is_federated(arm)}
        facts["claims"] = {arm: claims(found) for arm, found in facts["gap"].items()}
    return facts


def _read_runs(tasks: Sequence[Task]) -> CellRuns:
    """Read a cell's predictions on the test rows of each fold."""
    found: CellRuns = {}
    for task in tasks:
        of_fold: dict[str, list[Predictions]] = {}
        settings = resolve_sites(task.cell.settings)
        for arm in list_arms(settings, task.folder):
            path = arm_folder(task.folder, settings, arm.name, arm.seed).path / "predictions.csv"
            of_fold.setdefault(arm.name, []).append(Predictions.from_csv(path))
        for name, seeds in of_fold.items():
            found.setdefault(name, []).append(seeds)
    return found


def _site_known(grid: Grid, tasks: Sequence[Task], finished: FinishedCells) -> dict[str, Any] | None:
    """Measure what knowing only the hospital is worth, on the default cell's rows; None if they leak or are missing."""
    settings = grid.cells[grid.default].settings
    if grid.default not in finished.runs or settings.split != "groups":
        return None
    some_arm = next(iter(finished.runs[grid.default].values()))
    folds = [(seeds[0], read_results(task.folder)["sites"]) for seeds, task in zip(some_arm, tasks, strict=True)]
    return measure_site_known(folds, finished.sites, settings)


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


def _to_default(mine: CellFigures, default: CellFigures) -> dict[str, Any]:
    """Compare each arm with the default cell's: the arm of the same name, or the only federated arm of both."""
    found = {}
    for arm, places in mine.items():
        partner = arm if arm in default else _only_federated(default) if arm == _only_federated(mine) else None
        if partner:
            found[arm] = {place: measured.minus(default[partner][place]) for place, measured in places.items()}
    return found


def _only_federated(figures: CellFigures) -> str | None:
    names = [arm for arm in figures if arm in STRATEGIES]
    return names[0] if len(names) == 1 else None


def leakage_of_cell(cell: Cell, task: Task) -> dict[str, Any]:
    """Measure how much a cell's split leaks, on the first fold."""
    settings = resolve_sites(cell.settings)
    sites = {name: open_site(task.folder, name) for name in settings.sites}
    return leakage_of(settings, task.folder, sites, list_arms(settings, task.folder))
