"""Measure a training step on a machine that other programs use too, with our threads and with OpenMP's default.

    python -m simulations.benchmarks.loaded SETTINGS.json OUT.json [--quick]

*Ours* waits as `fedbus.system.threads` decides, *default* as GNU's OpenMP does where no variable is set. Each is a
process that trains on one batch in memory, alone (*quiet*) and beside busy loops (*loaded*); they take turns.
*Fair share*: the time of a step if every thread that wants a core gets an equal share of all cores.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from fedbus.device import pick_device
from fedbus.models.build import place_model
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json
from fedbus.system.threads import VARIABLES, waiting_policy
from simulations.benchmarks.throughput import Speed, ceiling_speed, median_ratio

LOOPS = 2
"""Busy loops beside a loaded step."""

STEPS, TURNS, QUICK_TURNS = 2, 3, 1
"""Timed steps of each turn, and turns of each process, in a full and in a quick run."""

LIBRARY_DEFAULT = {"GOMP_SPINCOUNT": "300000"}
"""The default of GNU's OpenMP, about 3 ms, which must be set: our packages choose for processes where nothing is."""

BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"
"""A busy loop that ends with its parent, however that ends."""

Seconds = Mapping[str, Mapping[str, list[float]]]
"""Seconds per step of each way to wait, `quiet` and `loaded`: one value per turn."""


def measure(
    settings: Mapping[str, Any], policies: Mapping[str, Mapping[str, str]], threads: int, steps: int, turns: int
) -> Seconds:
    """Measure training steps with each way to wait, in turns.

    Args:
        settings: The settings, with TOML's keys: model, batch and image size, precision.
        policies: The environment variables of each way, by its name.
        threads: Threads of a step.
        steps: Timed steps of each turn.
        turns: Turns of each way.
    """
    found: dict[str, dict[str, list[float]]] = {name: {"quiet": [], "loaded": []} for name in policies}
    with ExitStack() as stack:
        processes = {name: stack.enter_context(waiting_process(policy)) for name, policy in policies.items()}

        def take_turns(names: list[str], load: str) -> None:
            for name in names:
                found[name][load].append(processes[name].submit(_step_seconds, settings, threads, steps).result())

        for turn in range(turns):
            names = list(policies)[:: -1 if turn % 2 else 1]
            take_turns(names, "quiet")
            with busy_loops(LOOPS):
                take_turns(names, "loaded")
    return found


@contextmanager
def waiting_process(policy: Mapping[str, str]) -> Iterator[ProcessPoolExecutor]:
    """Start a process whose threads wait in one way; OpenMP reads the variables once, when PyTorch is imported."""
    before = dict(os.environ)
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        try:
            for name in VARIABLES:
                os.environ.pop(name, None)
            os.environ.update(policy)
            process.submit(os.getpid).result()
        finally:
            os.environ.clear()
            os.environ.update(before)
        yield process


@contextmanager
def busy_loops(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run busy loops in this session: Linux may share the cores among sessions before it shares them within.

    A loop in a session of its own would then get as much as all threads of the training together.
    """
    loops = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
    try:
        yield loops
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _step_seconds(settings: Mapping[str, Any], threads: int, steps: int) -> float:
    torch.set_num_threads(threads)
    built = build_settings(settings, "settings")
    return built.batch_size / _speed(built)(steps)


@lru_cache(maxsize=1)
def _speed(settings: Settings) -> Speed:
    return ceiling_speed(place_model(settings.model, pick_device("cpu")), settings)


def fair_share(threads: int, loops: int, cores: int) -> float:
    """Return how many times its quiet time a step takes if threads and loops share the cores equally."""
    return max(1.0, (threads + loops) / cores)


def figures(found: Seconds, threads: int, cores: int) -> dict[str, float]:
    """Compute the figures for a number of threads from the seconds of `ours` and `default`."""
    ours, default = found["ours"], found["default"]
    share = fair_share(threads, LOOPS, cores)
    return {
        "threads": threads,
        "fair_share": share,
        "quiet_s": statistics.median(ours["quiet"]),
        "quiet_default_s": statistics.median(default["quiet"]),
        "loaded_s": statistics.median(ours["loaded"]),
        "loaded_default_s": statistics.median(default["loaded"]),
        "quiet_over_default": median_ratio(ours["quiet"], default["quiet"]),
        "loaded_over_fair_share": median_ratio(ours["loaded"], ours["quiet"]) / share,
        "loaded_default_over_fair_share": median_ratio(default["loaded"], default["quiet"]) / share,
    }


def main(settings_file: Path, out: Path, quick: Annotated[bool, typer.Option(help="Fewer turns.")] = False) -> None:
    """Measure with one thread and with as many as PyTorch starts, and write the figures of the latter to OUT."""
    settings, cores, turns = read_json(settings_file), os.cpu_count() or 1, QUICK_TURNS if quick else TURNS
    policies = {"ours": waiting_policy(), "default": LIBRARY_DEFAULT}
    rows = []
    for threads in sorted({1, torch.get_num_threads()}):
        rows.append(figures(measure(settings, policies, threads, STEPS, turns), threads, cores))
    facts = {"policy": waiting_policy(), "cores": cores, "loops": LOOPS, "rows": rows}
    names = ("loaded_over_fair_share", "quiet_over_default")
    write_json(out, {name: rows[-1][name] for name in names} | facts)


if __name__ == "__main__":
    typer.run(main)
