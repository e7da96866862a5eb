"""Kills in a simulation: the driver, Ray's daemon or a worker, then `--resume`."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from simulations.flower_simulation import WORKER
from tests.soak.case import (
    SEEDS,
    Workplace,
    ended,
    expect_end,
    expect_same_weights,
    kill_at_random,
    rounds_of,
    weights_of,
)

TARGETS = {"driver": "fedbus compare", "raylet": "/raylet/raylet ", "worker": WORKER}
"""What the command line of a process contains."""


def list_cases(place: Workplace) -> Iterator[tuple[str, Callable[[], str]]]:
    """List the cases, each with the function that runs it and describes what was done."""
    for seed in SEEDS:
        for target in TARGETS:
            yield f"simulation: {target}, seed {seed}", partial(_kill, place, target, seed)


def uncut_weights(place: Workplace) -> dict[str, str]:
    """Run the comparison once without a fault, and return its weights."""
    out = place.folder / "uncut"
    if not weights_of(out):
        expect_end(place.compare(out), out.with_suffix(".log"))
    return weights_of(out)


def resume(place: Workplace, out: Path) -> None:
    """Continue a run to its end, and check its weights and that nothing is left."""
    expect_end(place.compare(out, "--resume"), out.with_suffix(".log"))
    expect_same_weights(out, uncut_weights(place))
    place.expect_nothing_left()


def _kill(place: Workplace, target: str, seed: int) -> str:
    uncut_weights(place)
    out = place.folder / f"{target}-{seed}"
    run = place.compare(out)
    with ended(run):
        moment = kill_at_random(out, run, lambda: _find(place, TARGETS[target]), seed)
        expect_end(run, out.with_suffix(".log"), code=-9 if target == "driver" else None)
        status, done = run.returncode, rounds_of(out)
        place.expect_nothing_left()  # before anything else is started
    if status:
        resume(place, out)
    expect_same_weights(out, uncut_weights(place))
    return f"{moment}; it ended with {status} and {done} rounds"


def _find(place: Workplace, words: str) -> list[psutil.Process]:
    found = []
    for process in place.processes():
        with suppress(psutil.Error):
            if words in " ".join(process.cmdline()) + " ":
                found.append(process)
    return found
