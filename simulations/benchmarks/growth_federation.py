"""Federations that grow: many rounds, many sites, large models.

Images are small and a site takes one step per round, so that the costs besides training show.
"""

import os
import statistics
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedbus.runs.checkpoint import ArmFolder
from fedbus.transport.packing import pack
from server.rounds.job import Job
from simulations.benchmarks.case import Case, make_case
from simulations.benchmarks.growth_images import write_dataset
from simulations.benchmarks.growth_memory import Slope, fit_slope, simulation_memory, simulation_peak
from simulations.benchmarks.memory_peak import MEGABYTE
from simulations.flower_simulation import simulate

SETTINGS: dict[str, Any] = {
    "arms": ["fedavg"], "weights": "none", "image-size": 32, "batch-size": 8, "local-epochs": 0.01, "folds": 3,
    "phantom-images": 30, "device": "cpu",
}  # fmt: skip
ROUNDS = 5
MANY = 300
"""With this many sites or more, three rounds are enough: each is a mean over many messages."""

IMAGES_PER_SITE = 30
COUNTED = ("driver", "workers", "store")


def run(case: Case, on_round: Callable[[dict[str, Any]], object] = lambda line: None) -> list[dict[str, Any]]:
    """Run a simulation of FedAvg, and return its history.

    The seconds of the rounds after the first are from end to end, with the checkpoint, which is written after the
    history's own seconds.
    """
    arm, settings, ends = ArmFolder(case.out / "fedavg"), case.settings, list[float]()

    def note(line: dict[str, Any]) -> None:
        ends.append(time.monotonic())
        on_round(line)

    job = Job(settings, "fedavg", settings.seeds[0], case.start, arm, on_round=note)
    simulate(settings, case.out, [job], threading.Event())
    lines = arm.read_history()
    for line, (previous, end) in zip(lines[1:], pairwise(ends), strict=True):
        line["seconds"] = end - previous
    return lines


def measure_rounds(folder: Path, model: str, rounds: int) -> dict[str, Any]:
    """Watch a simulation's memory over the rounds; the first fifth of them, at least three, is warm-up.

    Returns:
        Megabytes per round by which driver, workers and object store grow, each and together, with standard errors;
        and the series.
    """
    case = make_case(folder, SETTINGS | {"model": model, "rounds": rounds})
    series: dict[str, list[float]] = {}

    def note(_: dict[str, Any]) -> None:
        for name, size in simulation_memory(folder).items():
            series.setdefault(name, []).append(size)

    run(case, note)
    warm_up = max(3, rounds // 5)
    return {"model": model, "rounds": rounds, "warm_up": warm_up, **slopes(series, warm_up), "series_mb": series}


def slopes(series: dict[str, list[float]], warm_up: int) -> dict[str, Any]:
    """Fit lines through the memory of all rounds after the warm-up.

    Args:
        series: Megabytes after each round, for each owner of memory.
        warm_up: Rounds to leave out.
    """
    counted = [sum(sizes) for sizes in zip(*(series[name] for name in COUNTED), strict=True)]
    together: Slope = fit_slope(counted[warm_up:])
    parts = {name: fit_slope(values[warm_up:]) for name, values in series.items()}
    return {
        "memory_slope_mb_per_round": together.value,
        "memory_slope_error_mb_per_round": together.error,
        "slopes_mb_per_round": {name: {"slope": line.value, "error": line.error} for name, line in parts.items()},
    }


def measure_sites(folder: Path, sites: int, workers: int = 1) -> dict[str, Any]:
    """Time the rounds of a federation of many small sites, each with its own images."""
    return time_sites(make_sites(folder, sites, workers))


def make_sites(folder: Path, sites: int, workers: int) -> Case:
    """Prepare many small sites."""
    datasets = {}
    for number in range(sites):
        path = write_dataset(folder / "datasets" / str(number), IMAGES_PER_SITE, seed=number)
        datasets[f"site-{number}"] = {"reader": "labels-csv", "path": str(path)}
    values = {"model": "test_resnet", "rounds": ROUNDS if sites < MANY else 3, "sites": datasets, "workers": workers}
    return make_case(folder, SETTINGS | values)


def time_sites(case: Case) -> dict[str, Any]:
    """Run a federation.

    Returns:
        Seconds per round and of the sites' own work, medians of the rounds after the first; milliseconds per site and
        round besides that work, for one processor; and the most memory of all processes together.
    """
    with simulation_peak(case.out) as peak:
        lines = run(case)[1:]
    sites, workers = len(case.settings.sites), case.settings.workers
    seconds = statistics.median(line["seconds"] for line in lines)
    work = statistics.median(sum(line["site_seconds"].values()) for line in lines)
    at_once = min(workers, os.cpu_count() or 1)
    return {
        "sites": sites,
        "workers": workers,
        "round_s": seconds,
        "round_s_per_site": seconds / sites,
        "work_s_per_site": work / sites,
        "overhead_ms": 1000 * (at_once * seconds - work) / sites,
        "peak_mb": peak.megabytes,
    }


def measure_model(folder: Path, model: str) -> dict[str, Any]:
    """Measure the time of a round outside the sites' work, with three sites one after another, and a message's size."""
    case = make_case(folder, SETTINGS | {"model": model, "rounds": ROUNDS, "workers": 1})
    lines = run(case)[1:]
    sizes = {way: sum(array.nbytes for array in pack(case.start, way).values()) for way in ("flat", "flat-fp16")}
    seconds = statistics.median(line["seconds"] for line in lines)
    outside = statistics.median(line["seconds"] - sum(line["site_seconds"].values()) for line in lines)
    return {
        "model": model,
        "model_mb": sum(value.nbytes for value in case.start.values()) / MEGABYTE,
        "message_mb": sizes["flat"] / MEGABYTE,
        "message_fp16_mb": sizes["flat-fp16"] / MEGABYTE,
        "round_s": seconds,
        "outside_s": outside,
    }
