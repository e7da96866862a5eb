"""Run one cell of a study in a separate process: a comparison in the cell's folder, resumed if it was started.

    python -m simulations.studies.cell_process REQUEST.json FOLDER

It is separate because a federated arm starts its own Ray, and because a cell that crashes must not end the others.
Exit status: 0 finished, 1 failed, 130 or 143 stopped.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import shutil
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
from fedbus.runs.site_state import state_folder
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.default_sites import resolve_sites
from fedbus.system.encoding import show_any_text
from fedbus.system.files import read_json, write_json
from fedbus.system.signals import exit_status, handle_signals
from fedbus.system.third_party import silence_third_party

FAILURE_FILE = "failed.json"
"""In the cell's request folder: the problem and the remedy, if the cell failed."""

WEIGHT_FILES = ("best.safetensors", "done.json", "history.jsonl")
"""The files of a trained arm that another cell needs to score its weights."""


def is_finished(folder: Path, settings: Settings) -> bool:
    """Whether a cell has results for all arms that its settings name; such a cell is not run again."""
    path = folder / RESULTS_FILE
    return path.is_file() and _arms_in(path, path.stat().st_mtime_ns).issuperset(settings.arms)


@lru_cache(maxsize=1024)
def _arms_in(results: Path, written: int) -> frozenset[str]:
    """Return the arms in a results file; cached by its time stamp, because the progress bars ask every second."""
    return frozenset(read_json(results)["settings"]["arms"])


def run_cell(settings: Settings, folder: Path, weights_of: Path | None, console: Console) -> None:
    """Run or resume a cell.

    Args:
        settings: The cell's settings.
        folder: The cell's run folder.
        weights_of: The run folder of the finished cell whose weights it scores; None: it trains its own.
        console: Prints what the comparison prints.

    Raises:
        FedbusError: As `simulations.compare.compare`.
    """
    from simulations.compare import compare

    if weights_of and not is_run(folder):
        copy_weights(settings, folder, weights_of)
    compare(settings, folder, resume=is_run(folder), console=console)


def copy_weights(settings: Settings, folder: Path, source: Path) -> None:
    """Make a cell's run folder whose arms are already trained, from those of another cell.

    Raises:
        RunError: If an arm of the other cell is not trained.
    """
    from simulations.arm import list_arms

    for arm in (arm for arm in list_arms(resolve_sites(settings), folder) if not arm.blended):
        trained = arm_folder(source, settings, arm.name, arm.seed).path
        if not (trained / "done.json").is_file():
            raise RunError(f"{trained} is not trained.", "Run the cell that it belongs to first.")
        arm.folder.path.mkdir(parents=True, exist_ok=True)
        for name in WEIGHT_FILES:
            shutil.copyfile(trained / name, arm.folder.path / name)
        own_state = state_folder(source, arm.title)
        if own_state.is_dir():  # the BatchNorm state that sites keep is part of the model
            shutil.copytree(own_state, state_folder(folder, arm.title), dirs_exist_ok=True)
    record_run(folder, settings)


def main(request_file: Path, folder: Path) -> int:
    """Run the requested cell; if it fails, write the reason beside the request."""
    show_any_text()
    silence_third_party()
    handle_signals()
    request: Mapping[str, Any] = read_json(request_file)
    failure = request_file.with_name(FAILURE_FILE)
    failure.unlink(missing_ok=True)
    try:
        source = Path(request["weights_of"]) if request["weights_of"] else None
        run_cell(build_settings(request["settings"], str(request_file)), folder, source, Console(width=140))
    except FedbusError as error:
        write_json(failure, {"problem": error.problem, "remedy": error.remedy})
        return 1
    except KeyboardInterrupt:
        return exit_status()
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1]), Path(sys.argv[2])))
