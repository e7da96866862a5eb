"""Run the cells of a study as Ray tasks: several at a time on a large machine or a cluster, one on a small one.

OUT/cells/NAME  a cell's run folder     OUT/asked/NAME/  what it was asked (asked.json), its log, why it failed
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

from clients.ray_security import protect_own_ray
from fedbus.system.files import read_json, write_json
from fedbus.system.processes import end_child, last_words, start_child
from fedbus.system.third_party import SETTINGS
from simulations.flower_simulation import join_cluster
from simulations.studies.cell import Cell
from simulations.studies.cell_process import FAILURE_FILE, is_finished

CORES_A_CELL = 8
"""Training small pictures gains little from more; a machine with fewer runs one cell at a time with all it has."""

POLL_SECONDS = 1.0


@dataclass(frozen=True)
class Task:
    """One cell's training on one fold.

    Attributes:
        cell: what to run; its study names the fold.
        folder: its run folder.
        asked: the folder of its order and its log.
        weights_of: the run folder whose weights it scores; None: it trains its own.
    """

    cell: Cell
    folder: Path
    asked: Path
    weights_of: Path | None = None

    @property
    def finished(self) -> bool:
        """Whether the cell ran to its end."""
        return is_finished(self.folder, self.cell.settings)

    @property
    def rounds(self) -> int:
        """Rounds of all its arms and seeds."""
        settings = self.cell.settings
        sites = len(settings.sites) or 3
        return settings.rounds * len(settings.seeds) * sum(sites if arm == "local" else 1 for arm in settings.arms)

    @property
    def rounds_done(self) -> int:
        """Rounds that its folder shows as finished."""
        if self.finished:
            return self.rounds
        histories = (self.folder / "arms").glob("**/history.jsonl")
        return sum(path.read_bytes().count(b"\n") for path in histories)


def run_tasks(tasks: list[Task], address: str, watch: Callable[[], object]) -> dict[Path, str]:
    """Run every task that is not finished; one that fails does not stop the others.

    Args:
        tasks: those that take another's weights come after it.
        address: of a Ray cluster that sees the folders on the same paths; empty: this machine.
        watch: called about once a second.

    Returns:
        Why tasks failed, by folder.

    Raises:
        RunError: no cluster answers.
        KeyboardInterrupt: Ctrl-C; finished rounds are kept.
    """
    waiting: dict[Any, Task] = {}
    waves = [[task for task in tasks if (task.weights_of is not None) == later] for later in (False, True)]
    failures: dict[Path, str] = {}
    if all(task.finished for task in tasks):
        return failures
    processors, gpus = _start_ray(address)
    import ray  # not before it is protected

    run = ray.remote(num_cpus=min(CORES_A_CELL, processors), num_gpus=min(1, gpus), max_retries=0)(_run_task)
    try:
        for wave in waves:
            open_tasks = [task for task in wave if not task.finished]
            for task in open_tasks:
                _write_order(task)
            waiting = {run.remote(str(task.asked), str(task.folder), sys.path): task for task in open_tasks}
            while waiting:
                done, _ = ray.wait(list(waiting), timeout=POLL_SECONDS)
                watch()
                for reference in done:
                    task = waiting.pop(reference)
                    reason = _outcome(ray, reference, task)
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


def _start_ray(address: str) -> tuple[int, int]:
    """Processors and GPUs of the largest node."""
    if address:
        return join_cluster(address)
    protect_own_ray()
    import logging

    import ray
    import torch

    processors, gpus = os.cpu_count() or 1, torch.cuda.device_count()
    ray.init(
        address="local", num_cpus=processors, num_gpus=gpus, include_dashboard=False, log_to_driver=False,
        logging_level=logging.ERROR,
    )  # fmt: skip
    return processors, gpus


def _write_order(task: Task) -> None:
    settings = task.cell.settings.as_dict() | {"ray-address": ""}  # a cell's own simulation runs where the cell does
    source = str(task.weights_of) if task.weights_of else ""
    write_json(task.asked / "asked.json", {"settings": settings, "weights_of": source})


def _run_task(asked: str, folder: str, path: list[str]) -> int:
    """On a Ray worker: the cell as a process of its own."""
    settings = SETTINGS | {"PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-m", "simulations.studies.cell_process", f"{asked}/asked.json", folder]
    child = start_child(command, Path(asked) / "log.txt", settings)
    try:
        return child.wait()
    except KeyboardInterrupt:  # cancelled: the cell may finish what it is writing
        child.send_signal(signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(20)
        raise
    finally:
        end_child(child)


def _outcome(ray: Any, reference: Any, task: Task) -> str:
    """Why a task failed, in one line; empty if it did not."""
    try:
        code = ray.get(reference)
    except ray.exceptions.RayError as error:
        return f"the worker was lost ({type(error).__name__})"
    if code == 0:
        return ""
    failure = task.asked / FAILURE_FILE
    if failure.is_file():
        said: Mapping[str, Any] = read_json(failure)
        return f"{said['problem']} {said['remedy']}"
    return f"it broke down (exit status {code}): {last_words(task.asked / 'log.txt', 1)}"
