"""`fedbus study`: run a grid of comparisons, each cell once, and report what its settings change."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from fedbus.errors import RunError, SettingsError
from fedbus.reports.comparison.figures import headline_figure_png
from fedbus.reports.comparison.results import read_results
from fedbus.reports.paper.tables import census_table, paper_fragment, paper_table
from fedbus.reports.study.gap import HEADING, gap_fragment, gap_rows, gap_table
from fedbus.reports.study.leaks import leak_table
from fedbus.reports.study.page import write_study
from fedbus.reports.study.privacy import privacy_rows, varies_epsilon
from fedbus.reports.study.privacy_figure import privacy_figure_png
from fedbus.reports.study.privacy_section import HEADING as PRIVACY_HEADING
from fedbus.reports.study.privacy_section import privacy_fragment
from fedbus.reports.study.tables import study_table
from fedbus.runs.environment import describe_environment
from fedbus.runs.folder import check_run, is_run
from fedbus.runs.lock import RUNNING, hold_folder, is_unused
from fedbus.settings.privacy_rules import check_secure_sites
from fedbus.sites.default_sites import resolve_sites
from fedbus.sites.site import SITES_FILE, site_notes
from fedbus.system.files import read_json, write_json
from fedbus.system.locks import is_held
from fedbus.text import MOST_OF_A_LINE, plain_text
from server.rounds.robust import check_robust_arms
from simulations.compare import PHANTOM_NOTE
from simulations.precision import resolve_precision
from simulations.studies.grid import Grid
from simulations.studies.results import SCHEMA, gather_study
from simulations.studies.run_cells import Task, run_tasks

STUDY_FILE = "study.json"

END_SECONDS = 60.0
"""How long the cells of a study that was killed may take to end."""


def default_study_out(name: str) -> Path:
    """Name a new folder after the study and the current time."""
    return Path("runs") / f"{name}-{datetime.now():%Y%m%d-%H%M%S}"


def run_study(grid: Grid, out: Path, *, resume: bool, folds: Sequence[int] = (), console: Console) -> bool:
    """Run the cells that are not finished, then print the table and write the report.

    Args:
        grid: The study's cells.
        out: The study's folder.
        resume: Continue the study in `out`.
        folds: Use each of these folds as the test set in turn; all of them, so that every image is tested once. Empty:
            the fold of the settings.
        console: Prints progress, tables and failures.

    Returns:
        Whether every cell finished.

    Raises:
        FedbusError: If the input can't be used, before anything is trained; a cell that fails is reported as failed.
        KeyboardInterrupt: On Ctrl-C; finished cells and rounds are kept.
    """
    _check_folds(grid, folds)
    out, grid = out.resolve(), _with_precision(grid)
    with hold_folder(out, lambda: _check_folder(grid, out, resume=resume)):
        return _run(grid, out, folds, console)


def _run(grid: Grid, out: Path, folds: Sequence[int], console: Console) -> bool:
    """Do what `run_study` does, in a folder that no other process uses."""
    environment = _record_study(grid, out)
    tasks = {name: _tasks(grid, name, out, folds) for name in grid.cells}
    all_tasks = [task for cell in tasks.values() for task in cell]
    _wait_for_cells(all_tasks)
    for task in all_tasks:
        _check_cell_folder(task)
    if not grid.shared.sites:
        resolve_sites(grid.shared)  # writes the phantoms once: several cells would do so at the same time
        console.print(PHANTOM_NOTE)
    for cell in grid.cells.values():
        sites = len(resolve_sites(cell.settings).sites)
        check_robust_arms(cell.settings, sites)
        check_secure_sites(cell.settings.privacy, sites)
    failures = _run_with_progress(all_tasks, grid.shared.ray_address, console)
    content = gather_study(grid, tasks, failures, environment, console)
    write_json(out / STUDY_FILE, content)
    results = _default_results(grid, tasks)
    report = write_study(content, _extras(content, results), out)
    _write_headline(content, out)
    if varies_epsilon(content):
        privacy_figure_png(content, out / "privacy.png")
    console.print(study_table(content))
    for table in (leak_table(content), gap_table(content) if gap_rows(content) else None):
        if table:
            console.print(table)
    for table in (paper_table(results), census_table(results)) if results else ():
        if table:
            console.print(table)
    console.print(f"Report: {report}   figures: {out / STUDY_FILE}", markup=False, soft_wrap=True)
    for folder, reason in failures.items():
        console.print(f"{folder.relative_to(out)} failed: {reason}", markup=False, soft_wrap=True)
    if failures:
        console.print(f"Fix the failed cells, then run them with the same command and: --out {out} --resume")
    return not failures


def _check_folds(grid: Grid, folds: Sequence[int]) -> None:
    """Check that every cell can be tested on these folds.

    Raises:
        SettingsError: If a cell's folds overlap, or it has fewer folds.
    """
    for name, cell in grid.cells.items() if folds else ():
        if cell.settings.split != "groups":
            raise SettingsError(
                f"Cell {name} has split = {cell.settings.split}, whose folds overlap.",
                "Leave out --folds and --all-folds.",
            )
        if max(folds) >= cell.settings.folds:
            raise SettingsError(
                f"--folds: {max(folds)} is out of range; the folds are 0 to {cell.settings.folds - 1}.",
                "Name existing folds, or set the number of folds with --set folds=N.",
            )


def _with_precision(grid: Grid) -> Grid:
    """Resolve `precision = "auto"` once for all cells, so that cells of different precision are never compared."""
    cells = {name: replace(cell, settings=resolve_precision(cell.settings)) for name, cell in grid.cells.items()}
    return replace(grid, cells=cells, shared=resolve_precision(grid.shared))


def _check_folder(grid: Grid, out: Path, *, resume: bool) -> None:
    """Check that the study may use a folder.

    Raises:
        RunError: If it contains something else, another study, or one of another version.
    """
    path = out / STUDY_FILE
    if not path.is_file():
        if resume:
            raise RunError(f"{out} contains no study to resume.", "Leave out --resume, or name the study's folder.")
        if not is_unused(out):
            raise RunError(f"{out} is not empty and contains no study.", "Choose another --out.")
        return
    before = read_json(path)
    if before.get("schema") != SCHEMA:
        version = before.get("fedbus") or before.get("versions", {}).get("fedbus")
        what = f"from another version of FedBUS ({version or 'unknown'})" if "cells" in before else "not of a study"
        raise RunError(f"{path} is {what}.", "Use that version, or choose another --out.")
    if before["study"] != grid.name:
        raise RunError(f"{out} contains the study {before['study']!r}, not {grid.name!r}.", "Choose another --out.")
    if not resume:
        raise RunError(f"{out} already contains a study.", "Continue it with --resume, or choose another --out.")


def _record_study(grid: Grid, out: Path) -> dict[str, Any]:
    """Record a new study in its folder, and return the environment in which the study was started."""
    path = out / STUDY_FILE
    if path.is_file():
        before = read_json(path)
        return {key: before[key] for key in ("created", "command", "versions", "machine")}
    environment = describe_environment()
    write_json(path, {"schema": SCHEMA, "study": grid.name, "cells": {}, **environment})
    return environment


def _tasks(grid: Grid, name: str, out: Path, folds: Sequence[int]) -> list[Task]:
    """Make a cell's task, or one for each of the folds."""
    cell = grid.cells[name]
    if not folds:
        source = out / "cells" / cell.weights_of if cell.weights_of else None
        return [Task(cell, out / "cells" / name, out / "requests" / name, source)]
    tasks = []
    for fold in folds:
        subfolder = f"{name}/fold-{fold}"
        source = out / "cells" / f"{cell.weights_of}/fold-{fold}" if cell.weights_of else None
        cell_of_fold = replace(cell, settings=cell.settings.model_copy(update={"fold": fold}))
        tasks.append(Task(cell_of_fold, out / "cells" / subfolder, out / "requests" / subfolder, source))
    return tasks


def _wait_for_cells(tasks: Sequence[Task]) -> None:
    """Wait until the cells of a study that was killed have ended, which takes them seconds.

    Raises:
        RunError: If one is still running after a minute.
    """
    deadline = time.monotonic() + END_SECONDS
    for folder in (task.folder for task in tasks):
        while is_held(folder / RUNNING):
            if time.monotonic() > deadline:
                raise RunError(f"{folder} is still in use.", "Wait for the process that uses it to end.")
            time.sleep(0.2)


def _check_cell_folder(task: Task) -> None:
    """Check that a cell which was already started has the same settings.

    Raises:
        RunError: If its folder was made with other settings.
    """
    if is_run(task.folder):
        check_run(task.folder, task.cell.settings, resume=True)


def _run_with_progress(tasks: list[Task], address: str, console: Console) -> dict[Path, str]:
    bars = Progress(
        TextColumn("{task.description}"), BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(), console=console, refresh_per_second=2,
    )  # fmt: skip
    with bars:
        cells = bars.add_task("cells", total=len(tasks))
        rounds = bars.add_task("rounds", total=sum(task.rounds for task in tasks))
        notes = _notes_of_first(tasks)

        def watch() -> None:
            for note in next(notes, []):
                console.print(Text(plain_text(note, MOST_OF_A_LINE), style="dim"))
            bars.update(cells, completed=sum(task.finished for task in tasks))
            bars.update(rounds, completed=sum(task.rounds_done for task in tasks))

        watch()
        failures = run_tasks(tasks, address, watch)
        watch()
    return failures


def _notes_of_first(tasks: Sequence[Task]) -> Iterator[list[str]]:
    """Yield the notes on the sites' data once, when the first cell has prepared them; before and after, nothing."""
    while (folder := next((task.folder for task in tasks if (task.folder / SITES_FILE).is_file()), None)) is None:
        yield []
    yield site_notes(folder)


def _default_results(grid: Grid, tasks: dict[str, list[Task]]) -> dict[str, Any] | None:
    """Return the default cell's results, to compare with the paper's; None if its arms or its split do not allow it."""
    task = tasks[grid.default][0]
    arms = {"local", "centralised"} & set(task.cell.settings.arms)
    comparable = arms and task.cell.settings.split == "groups" and task.finished
    return read_results(task.folder) if comparable else None


def _write_headline(content: dict[str, Any], out: Path) -> None:
    """Draw the arms of the cell with the references, if it has any: `headline.png`, as a comparison has."""
    cell = content["cells"].get(content["references"])
    if cell and cell["state"] == "finished":
        drawn = {key: content[key] for key in ("phantoms", "sites")} | {"arms": cell["arms"], "differences": []}
        headline_figure_png(drawn, out / "headline.png")


def _extras(content: dict[str, Any], results: dict[str, Any] | None) -> dict[str, Markup]:
    """Return the page's optional sections, by heading."""
    sections = {}
    if results and (fragment := paper_fragment(results)):
        sections["Comparison with the paper"] = fragment
    if gap_rows(content):
        sections[HEADING] = gap_fragment(content)
    if privacy_rows(content):
        sections[PRIVACY_HEADING] = privacy_fragment(content)
    return sections
