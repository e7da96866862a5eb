"""One cell of a study, as a process of its own: a comparison in its folder, taken up where it stands.

    python -m simulations.studies.cell_process ASKED.json FOLDER

A process of its own, because a federated arm starts a Ray of its own, and because what breaks one cell must not break
the others. Exit status: 0 finished, 1 failed, 130 stopped.
"""

import os
import shutil
import signal
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console

from fedbus.errors import FedbusError, RunError
from fedbus.reports.comparison.results import RESULTS_FILE
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import is_run, record_run
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.system.files import read_json, write_json
from fedbus.system.third_party import silence_third_party

FAILURE_FILE = "failed.json"
"""Beside nothing else in a cell's log folder: why the cell failed, in words."""

KEPT = ("best.safetensors", "done.json", "history.jsonl")
"""What of a trained arm another cell needs to score its weights."""


def is_finished(folder: Path, settings: Settings) -> bool:
    """Whether a cell ran to its end, with all arms that it now has; it is never run again."""
    path = folder / RESULTS_FILE
    return path.is_file() and _arms_in(path, path.stat().st_mtime_ns).issuperset(settings.arms)


@lru_cache(maxsize=1024)
def _arms_in(results: Path, written: int) -> frozenset[str]:
    """The arms of finished results, read once for each time that they were written: progress asks every second."""
    return frozenset(read_json(results)["settings"]["arms"])


def run_cell(settings: Settings, folder: Path, weights_of: Path | None, console: Console) -> None:
    """Run a cell from wherever it stands to its end.

    Args:
        settings: its settings.
        folder: of the cell.
        weights_of: the finished cell whose weights it scores; None: it trains its own.
        console: takes what the comparison says.

    Raises:
        FedbusError: as `simulations.compare.compare`.
    """
    from simulations.compare import compare

    if weights_of and not is_run(folder):
        take_weights(settings, folder, weights_of)
    compare(settings, folder, resume=is_run(folder), console=console)


def take_weights(settings: Settings, folder: Path, source: Path) -> None:
    """Make a cell's folder in which all arms are trained already, by another cell.

    Raises:
        RunError: the other cell has not all that is needed.
    """
    from simulations.arm import list_arms

    for arm in list_arms(resolve_sites(settings), folder):
        trained = arm_folder(source, settings, arm.name, arm.seed).path
        if not (trained / "done.json").is_file():
            raise RunError(f"{trained} is not trained.", "Run the cell that it belongs to first.")
        arm.folder.path.mkdir(parents=True, exist_ok=True)
        for name in KEPT:
            shutil.copyfile(trained / name, arm.folder.path / name)
        remembered = Path("memory") / arm.title
        if (source / remembered).is_dir():  # what of BatchNorm is the sites' own belongs to the model
            shutil.copytree(source / remembered, folder / remembered, dirs_exist_ok=True)
    record_run(folder, settings)


def main(asked: Path, folder: Path) -> int:
    """Run the cell that a file asks for; why it failed is left in words beside its log."""
    silence_third_party()
    # The study ends its cells by SIGTERM; a simulation knows how to end by SIGINT.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    request: Mapping[str, Any] = read_json(asked)
    failure = asked.with_name(FAILURE_FILE)
    failure.unlink(missing_ok=True)
    try:
        source = Path(request["weights_of"]) if request["weights_of"] else None
        run_cell(build_settings(request["settings"], str(asked)), folder, source, Console(width=140))
    except FedbusError as error:
        write_json(failure, {"problem": error.problem, "remedy": error.remedy})
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
