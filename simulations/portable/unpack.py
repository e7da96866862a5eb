"""Turn the results of a packed study into run folders and a study's tables.

    python -m simulations.portable.unpack PACKED RESULTS.json.gz OUT

PACKED is the folder that `pack` wrote, on this machine. Writes a usual run folder per fold, with report, to
OUT/cells/portable/fold-F, and OUT/study.json; prints the tables of the study as Markdown. Arms that are not finished on
every fold are left out.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from fedbus.errors import FedbusError, RunError
from fedbus.evaluation.predictions import Predictions, join
from fedbus.reports.study.markdown import markdown_study
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.environment import describe_environment
from fedbus.runs.folder import ENVIRONMENT_FILE, read_settings, record_run
from fedbus.runs.lock import hold_folder
from fedbus.settings.arms import blended_from, is_blended
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.system.files import write_json
from simulations.arm import list_arms
from simulations.compare import compare
from simulations.portable.results_file import PackedResults
from simulations.studies.cell import Cell
from simulations.studies.grid import Grid
from simulations.studies.results import gather_study
from simulations.studies.run_cells import Task
from simulations.studies.study import STUDY_FILE

CELL = "portable"


def unpack(packed: Path, results: PackedResults, out: Path, console: Console) -> dict[str, Any]:
    """Write the run folders and `study.json`, in a folder that no other process uses.

    Args:
        packed: The folder that `pack` wrote.
        results: The results.
        out: The study's folder.
        console: Prints what `compare` prints.

    Returns:
        The content of `study.json`.

    Raises:
        RunError: If no arm is finished on every fold, or the results are of other rows.
        FedbusError: If the datasets can't be read.
    """
    with hold_folder(out):
        return _unpack(packed, results, out, console)


def _unpack(packed: Path, results: PackedResults, out: Path, console: Console) -> dict[str, Any]:
    settings = read_settings(packed).model_copy(update={"precision": results.machine["precision"]})
    folds = sorted({entry["fold"] for entry in results.trainings})
    settings = settings.model_copy(update={"arms": _finished_arms(settings, results, folds, out)})
    environment = describe_environment()
    environment["machine"] |= {key: results.machine[key] for key in ("cpu", "gpu")}
    environment["versions"] |= {key: results.machine[key] for key in ("python", "torch")}
    tasks = []
    for fold in folds:
        of_fold, folder = settings.model_copy(update={"fold": fold}), out / "cells" / CELL / f"fold-{fold}"
        _write_run(of_fold, folder, results, environment)
        compare(of_fold, folder, resume=True, console=console)
        tasks.append(Task(Cell(CELL, {}, of_fold), folder, out / "requests" / CELL / f"fold-{fold}"))
    cell = replace(tasks[0].cell, settings=settings)
    question = "Trained on another machine, from images that were packed to travel."
    grid = Grid("portable", "Portable study", question, settings, {CELL: cell}, default=CELL, references=CELL)
    content = gather_study(grid, {CELL: tasks}, {}, environment, console)
    write_json(out / STUDY_FILE, content)
    return content


def _finished_arms(settings: Settings, results: PackedResults, folds: Sequence[int], out: Path) -> tuple[str, ...]:
    """Return the arms that are finished on every fold, and the blended arms that follow from them.

    Raises:
        RunError: If there are none.
    """

    def finished(name: str) -> bool:
        alone = settings.model_copy(update={"arms": (name,)})
        return all((fold, arm.name, arm.seed) in results.finished for fold in folds for arm in list_arms(alone, out))

    trained = [name for name in settings.arms if not is_blended(name) and finished(name)]
    if not folds or not trained:
        raise RunError("No arm is finished on every fold.", "Run the packed study again, to continue it.")
    possible = {name for name in settings.arms if {"local", blended_from(name)} <= set(trained)}
    return tuple(name for name in settings.arms if name in trained or name in possible)


def _write_run(settings: Settings, folder: Path, results: PackedResults, environment: dict[str, Any]) -> None:
    """Write a run folder whose arms are trained and scored, all but its report."""
    sites = prepare_sites(settings, folder)
    write_json(folder / ENVIRONMENT_FILE, environment)
    record_run(folder, settings)
    for entry in results.trainings:
        local = entry["arm"].startswith("local-")
        if entry["fold"] == settings.fold and ("local" if local else entry["arm"]) in settings.arms:
            arm = arm_folder(folder, settings, entry["arm"], entry["seed"])
            arm.write_history(entry["history"])
            _predictions(entry["predictions"], sites).to_csv(arm.path / "predictions.csv")
            arm.finish(entry["facts"])


def _predictions(by_site: dict[str, Any], sites: dict[str, Site]) -> Predictions:
    """Give the predicted rows their groups and paths.

    Raises:
        RunError: If a site has other test rows, or other labels.
    """
    parts = []
    for name, site in sites.items():
        rows, test = by_site[name], site.splits["test"]
        if rows["rows"] != test.tolist() or rows["labels"] != site.labels[test].tolist():
            raise RunError(f"The results have other test rows of {name}.", "Name the folder that was packed for them.")
        groups = np.array([f"{name}/{group}" for group in site.groups[test]])
        parts.append(
            Predictions(
                site.labels[test], rows["probabilities"], groups, np.array([name] * len(test)), site.paths[test]
            )
        )
    return join(parts)


def main(words: Sequence[str] | None = None) -> int:
    """Write the folders, and print the tables; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packed", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("out", type=Path)
    given = parser.parse_args(words)
    try:
        content = unpack(given.packed, PackedResults.load(given.results), given.out, Console(stderr=True))
    except FedbusError as error:
        print(f"Error: {error.problem}\nWhat to do: {error.remedy}", file=sys.stderr)
        return 1
    print(markdown_study(content), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
