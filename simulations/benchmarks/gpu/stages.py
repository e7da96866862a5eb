"""Run the stages one after another, each in a process of its own and within its share of the time."""

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import Plan

Measure = Callable[[Plan, Results, float], bool]
"""Measures a stage within seconds; returns whether it is finished."""

STOP = 10.0
"""Seconds between the budget that a stage keeps by itself and its end by force."""


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: Its name in the results.
        seconds: Its share of the usual budget; 0: all that is left. A larger budget gives it more.
        measure: What it does.
    """

    name: str
    seconds: float
    measure: Measure


def run_stages(stages: Sequence[Stage], plan: Plan, results: Results) -> None:
    """Run the stages that are not finished, until the budget is spent.

    A process per stage: an error on a GPU makes it unusable for the process, and memory would add up. The processes
    are forked, which is fast; therefore this process must never use the GPU.
    """
    started = time.monotonic()
    for stage in stages:
        if results.finished(stage.name):
            continue
        left = plan.seconds - (time.monotonic() - started)
        limit = min(stage.seconds * max(1.0, plan.seconds / Plan.seconds) or left, left)
        if limit < STOP:
            print(f"{stage.name}: no time left", flush=True)
            continue
        results.begin(stage.name)
        begun = time.monotonic()
        outcome = run_apart(stage, plan, results, limit)
        print(f"{stage.name}: {outcome}, {time.monotonic() - begun:.0f} s", flush=True)


def run_apart(stage: Stage, plan: Plan, results: Results, limit: float) -> str:
    """Run a stage in a forked process; end it and its children by force after `limit` seconds.

    Returns:
        What became of it, in words.
    """
    child = multiprocessing.get_context("fork").Process(target=_work, args=(stage, plan, results, limit - STOP))
    child.start()
    try:
        child.join(limit)
    finally:
        stopped = child.is_alive()
        if child.pid and child.exitcode != 0:  # its workers may still run
            _end_group(child.pid)
        child.join()
    if stopped:
        results.add(stage.name, {"stopped_after_s": limit})
        return "stopped"
    if child.exitcode and "error" not in results.of(stage.name):
        results.add(stage.name, {"error": f"ended with status {child.exitcode}"})
    return "finished" if results.finished(stage.name) else results.of(stage.name).get("error", "not finished")


def _work(stage: Stage, plan: Plan, results: Results, seconds: float) -> None:
    os.setpgid(0, 0)  # a group of its own, so that its worker processes end with it
    try:
        results.add(stage.name, {"finished": stage.measure(plan, results, seconds)})
    except Exception as error:
        traceback.print_exc()
        results.add(stage.name, {"error": f"{type(error).__name__}: {error}"[:500]})
        sys.exit(1)


def _end_group(pid: int) -> None:
    with suppress(ProcessLookupError):  # all of it has ended
        os.killpg(pid, signal.SIGKILL)
