"""Measure the memory of processes, and how a figure grows over a series."""

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from fedbus.system.scratch import SHARED_MEMORY
from simulations.benchmarks.memory_peak import MEGABYTE, Peak
from simulations.flower_simulation import WORKER

PAUSE_SECONDS = 0.01
TREE_PAUSE_SECONDS = 0.5
"""Reading the memory of all processes of a simulation takes tens of milliseconds."""

STORE = "object_store_memory"
"""Ray's name for the resource."""


def run_apart(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function in a new process: it shares no memory with this one, and its peak is its own."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
        return process.submit(work, *arguments).result()


def private_bytes(process: psutil.Process) -> int:
    """Return a process's private memory; pages of memory-mapped files do not count."""
    memory = process.memory_info()
    return int(memory.rss - getattr(memory, "shared", 0))


def own_peak() -> Peak:
    """Watch the private memory of this process."""
    return Peak(partial(private_bytes, psutil.Process()), PAUSE_SECONDS)


def simulation_peak(folder: Path) -> Peak:
    """Watch the private memory of this process and its descendants, and the models that they share.

    Args:
        folder: As for `simulation_memory`.
    """
    return Peak(partial(_simulation_bytes, folder, psutil.Process()), TREE_PAUSE_SECONDS)


def _simulation_bytes(folder: Path, driver: psutil.Process) -> int:
    total = _model_bytes(folder)
    for process in (driver, *driver.children(recursive=True)):
        with suppress(psutil.Error):  # it has ended
            total += private_bytes(process)
    return total


def simulation_memory(folder: Path) -> dict[str, float]:
    """Return the megabytes that a running simulation uses; call it in the simulation's driver.

    Args:
        folder: The run folder, which contains the exchanged models if shared memory has no room for them.

    Returns:
        `driver`, `workers` and `ray` (Ray's other processes): memory that no other process shares (USS). `store`:
        Ray's objects, and the models that messages refer to.
    """
    import ray

    driver = psutil.Process()
    found = {"driver": float(driver.memory_full_info().uss), "workers": 0.0, "ray": 0.0}
    for process in driver.children(recursive=True):
        with suppress(psutil.Error):  # it has ended
            name = "workers" if process.cmdline()[:1] and process.cmdline()[0].startswith(WORKER) else "ray"
            found[name] += process.memory_full_info().uss
    room, free = ray.cluster_resources(), ray.available_resources()  # type: ignore[no-untyped-call]
    objects = float(room.get(STORE, 0) - free.get(STORE, 0))
    found["store"] = objects + _model_bytes(folder)
    return {name: size / MEGABYTE for name, size in found.items()}


def _model_bytes(folder: Path) -> int:
    """Return the size of all models that messages refer to."""
    total = 0
    for place in (*SHARED_MEMORY.glob(f"fedbus-{os.getpid()}-*"), folder / "exchange"):
        for path in place.rglob("*"):
            with suppress(OSError):  # it was deleted
                total += path.stat().st_size if path.is_file() else 0
    return total


@dataclass(frozen=True)
class Slope:
    """A straight line through a series.

    Attributes:
        value: How much the figure grows per step.
        error: Standard error of `value`, if the residuals are independent.
    """

    value: float
    error: float


def fit_slope(series: Sequence[float]) -> Slope:
    """Fit a straight line by least squares to at least three values, one per step."""
    steps, values = np.arange(len(series)) - (len(series) - 1) / 2, np.array(series)
    spread = float(steps @ steps)
    value = float(steps @ values) / spread
    residuals = values - values.mean() - value * steps
    return Slope(value, float(np.sqrt(residuals @ residuals / (len(series) - 2) / spread)))


def exponent(sizes: Sequence[float], figures: Sequence[float]) -> float:
    """The k for which figure ~ size^k, by least squares on logarithms: 1 is proportional, 2 quadratic."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0])
