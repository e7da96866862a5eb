"""Measure what a simulated round of FedAvg costs over a bare loop that takes the same steps in one process.

    python -m simulations.benchmarks.federation SETTINGS.json OUT.json

The bare loop does only what every federation must: for each site in turn it scores the shared weights on the site's
validation rows, trains them with our training loop, and adds them to the mean. If it does not end with the same weights
bit for bit, the measurement fails.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import statistics
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer

from fedbus.errors import RunError
from fedbus.models.state import State, get_state, set_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.system.allocator import release_freed_memory
from fedbus.system.files import read_json, write_json
from fedbus.transport.packing import pack
from server.rounds.job import Job
from simulations.benchmarks.case import Case, make_case
from simulations.benchmarks.site_work import SiteWork
from simulations.flower_simulation import simulate


@dataclass(frozen=True)
class Measured:
    """A run of several rounds.

    Attributes:
        seconds: Duration of each round.
        training: Seconds of each round spent in optimiser steps; empty if unknown.
        total: Wall-clock seconds of the whole run, with start and end.
        startup: Seconds until the first round could start.
        final: The shared weights after the last round.
        ends: When each round ended, in seconds of `time.time`.
    """

    seconds: list[float]
    training: list[float]
    total: float
    startup: float
    final: State
    ends: list[float]


def run_bare(case: Case) -> Measured:
    """Run FedAvg without Flower, Ray or files: in one process, one site after the other."""
    run_started = time.monotonic()
    work = SiteWork(case.settings, case.sites)
    model = work.make_model()
    shared, seconds, training, ends = case.start, [], [], []
    total_images = sum(work.weight(name) for name in work.rows)
    startup = time.monotonic() - run_started
    for number in range(1, case.settings.rounds + 1):
        started, stepped = time.monotonic(), work.stepping
        mean: dict[str, Any] = {}
        for name in work.rows:
            set_state(model, shared)
            work.train(model, name, number)
            add_to_mean(mean, get_state(model), work.weight(name) / total_images)
        shared = {key: torch.from_numpy(np.asarray(value)) for key, value in mean.items()}
        seconds.append(time.monotonic() - started)
        training.append(work.stepping - stepped)
        ends.append(time.time())
    return Measured(seconds, training, time.monotonic() - run_started, startup, shared, ends)


def add_to_mean(mean: dict[str, Any], state: State, share: float) -> None:
    """Add a site's weights to a running weighted mean, in place."""
    for key, value in state.items():
        if key in mean:
            mean[key] += value.numpy() * share
        else:
            mean[key] = value.numpy() * share


def run_federated(case: Case, folder: Path) -> Measured:
    """Run the same rounds as a simulation: Flower's strategy, messages, Ray's workers, checkpoints.

    Raises:
        RunError: If the run fails.
    """
    seconds: list[float] = []
    ends: list[float] = []

    def note(line: Mapping[str, Any]) -> None:
        seconds.append(float(line["seconds"]))
        ends.append(time.time())

    arm = ArmFolder(folder / "fedavg")
    job = Job(case.settings, "fedavg", case.settings.seeds[0], case.start, arm, on_round=note)
    run_started = time.time()
    simulate(case.settings, case.out, [job], threading.Event())
    total, startup = time.time() - run_started, ends[0] - run_started - statistics.median(seconds)
    return Measured(seconds, [], total, startup, arm.load_weights("final"), ends)


def measure(case: Case, folder: Path) -> dict[str, Any]:
    """Measure bare, federated, then bare again, which shows whether the machine's speed changed in between.

    Raises:
        RunError: If the simulation and the bare loop end with different weights.
    """
    before = run_bare(case)
    release_freed_memory()  # as a comparison does before it starts its workers
    federated, after = run_federated(case, folder), run_bare(case)
    if not all(torch.equal(federated.final[key], before.final[key]) for key in before.final):
        raise RunError("The simulation and the bare loop ended with different weights.", "Report this as a bug.")
    bare = statistics.median(before.seconds + after.seconds)
    steps = statistics.median(before.training + after.training)
    round_seconds = whole_round(federated)
    return {
        "federation_over_bare": round_seconds / bare,
        "federation_over_steps": round_seconds / steps,
        "federation_startup_s": federated.startup,
        "whole_run_over_bare": federated.total / statistics.mean([before.total, after.total]),
        "round_s": round_seconds,
        "bare_round_s": bare,
        "bare_drift": statistics.median(after.seconds) / statistics.median(before.seconds),
        "same_weights": True,
        "wire": {payload: wire(case.start, payload) for payload in ("flat", "flat-fp16", "dict")},
    }


def whole_round(federated: Measured) -> float:
    """Return the seconds of a round from end to end: those in the history are without the checkpoint after them."""
    return statistics.median(end - previous for previous, end in pairwise(federated.ends))


def measure_workers(case: Case, folder: Path, workers: int) -> tuple[float, float]:
    """Run the same rounds with several workers.

    Returns:
        Seconds of a round, and until the first one could start.
    """
    several = replace(case, settings=case.settings.model_copy(update={"workers": workers}))
    federated = run_federated(several, folder / f"workers-{workers}")
    return whole_round(federated), federated.startup


def wire(state: State, payload: str) -> dict[str, float]:
    """Return the size of the weights that a deployed site receives, and sends, per round."""
    arrays = pack(state, payload)
    return {"arrays": len(arrays), "megabytes": sum(array.nbytes for array in arrays.values()) / 1e6}


def main(settings: Path, out: Path) -> None:
    """Measure with the settings in a JSON file (TOML's keys), and write OUT."""
    folder = out.with_suffix("")
    write_json(out, measure(make_case(folder, read_json(settings)), folder))


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
