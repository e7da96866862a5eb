"""Run the cells of a study as Ray tasks: several at a time on a large machine or a cluster, else one by one.

OUT/cells/NAME  a cell's run folder     OUT/requests/NAME  its request (request.json), its log, and why it failed
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.settings.arms import is_blended
from fedbus.system.files import read_json, write_json
from fedbus.system.processes import end_child, log_tail, start_child
from fedbus.system.third_party import SETTINGS
from simulations.ray_session import start_ray
from simulations.studies.cell import Cell
from simulations.studies.cell_process import FAILURE_FILE, is_finished

CORES_PER_CELL = 8
"""Training on small images gains little from more cores; a machine with fewer gives all of them to one cell."""

REQUEST_FILE = "request.json"
LOG_FILE = "log.txt"

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """One cell on one fold.

    Attributes:
        cell: The cell to run; its settings name the fold.
        folder: Its run folder.
        request: The folder of its request and its log.
        weights_of: The run folder whose weights it scores; None: it trains its own.
    """

    cell: Cell
    folder: Path
    request: Path
    weights_of: Path | None = None

    @property
    def finished(self) -> bool:
        """Whether the cell has all its results."""
        return is_finished(self.folder, self.cell.settings)

    @property
    def rounds(self) -> int:
        """Number of rounds of all its arms and seeds."""
        settings = self.cell.settings
        sites = len(settings.sites) or 3  # phantoms
        trained = [arm for arm in settings.arms if not is_blended(arm)]
        return settings.rounds * len(settings.seeds) * sum(sites if arm == "local" else 1 for arm in trained)

    @property
    def rounds_done(self) -> int:
        """Number of finished rounds, counted in its folder."""
        if self.finished:
            return self.rounds
        histories = (self.folder / "arms").glob("**/history.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in histories)


def run_tasks(tasks: list[Task], address: str, watch: Callable[[], object]) -> dict[Path, str]:
    """Run every task that is not finished; one that fails does not stop the others.

    Tasks that score another cell's weights run after all that train.

    Args:
        tasks: The study's tasks.
        address: A Ray cluster whose nodes see the folders under the same paths; empty: this machine.
        watch: Called about once per second.

    Returns:
        The reason of each failure, by the task's folder.

    Raises:
        RunError: If no cluster answers at the address.
        KeyboardInterrupt: On Ctrl-C; finished rounds are kept.
    """
    waiting: dict[Any, Task] = {}
    waves = [[task for task in tasks if (task.weights_of is not None) == scoring] for scoring in (False, True)]
    failures: dict[Path, str] = {}
    if all(task.finished for task in tasks):
        return failures
    processors, gpus = start_ray(address)
    import ray  # only after it is protected

    run = ray.remote(num_cpus=min(CORES_PER_CELL, processors), num_gpus=min(1, gpus), max_retries=0)(_run_task)
    try:
        for wave in waves:
            unfinished = [task for task in wave if not task.finished]
            for task in unfinished:
                _write_request(task)
            waiting = {run.remote(str(task.request), str(task.folder), sys.path): task for task in unfinished}
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
                watch()
                for reference in done:
                    task = waiting.pop(reference)
                    reason = _failure_of(ray, reference, task)
                    if reason:
                        failures[task.folder] = reason
    except KeyboardInterrupt:
        for reference in waiting:
            ray.cancel(reference)
        ray.wait(list(waiting), num_returns=len(waiting), timeout=30)
        raise
    finally:
        ray.shutdown()
    return failures


def _write_request(task: Task) -> None:
    settings = task.cell.settings.as_dict() | {"ray-address": ""}  # a cell's own simulation runs on the cell's node
    source = str(task.weights_of) if task.weights_of else ""
    write_json(task.request / REQUEST_FILE, {"settings": settings, "weights_of": source})


def _run_task(request: str, folder: str, path: list[str]) -> int:
    """Run a cell as a child process of a Ray worker, and return its exit status."""
    settings = SETTINGS | {"PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-m", "simulations.studies.cell_process", f"{request}/{REQUEST_FILE}", folder]
    child = start_child(command, Path(request) / LOG_FILE, settings)
    try:
        return child.wait()
    except KeyboardInterrupt:  # cancelled: let the cell finish writing its files
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)
        raise
    finally:
        end_child(child)


def _failure_of(ray: Any, reference: Any, task: Task) -> str:
    """Return why a task failed, in one line; empty if it did not."""
    try:
        code = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"the worker was lost ({type(error).__name__})"
    if code == 0:
        return ""
    failure = task.request / FAILURE_FILE
    if failure.is_file():
        reason: Mapping[str, Any] = read_json(failure)
        return f"{reason['problem']} {reason['remedy']}"
    return f"it crashed (exit status {code}): {log_tail(task.request / LOG_FILE, 1)}"
