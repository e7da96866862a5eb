"""Measure speed, federation and the whole comparison on a GPU in one command of at most ten minutes.

    python -m simulations.benchmarks.gpu OUT [--packed FOLDER] [--seconds 580] [--device auto|cpu|cuda] ...

Needs only PyTorch, torchvision, timm, NumPy, scikit-learn and safetensors; the stage `flower` names the package that is
missing. The most valuable stages come first, each with its share of the time. OUT/gpu.json is rewritten after every
measurement; run the command again with the same OUT to measure what is left. --packed: the folder that
`simulations.portable.pack` wrote; its predictions are written to OUT/comparison. Images are noise otherwise.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import timm  # noqa: F401 - imported once, before the stages are forked
import torch  # noqa: F401 - the same

from simulations.benchmarks.gpu.bare import BARE, measure_bare
from simulations.benchmarks.gpu.comparison import COMPARISON, measure_comparison
from simulations.benchmarks.gpu.flower import FLOWER, measure_flower
from simulations.benchmarks.gpu.machine import GRAPHS, MACHINE, check_graphs, measure_machine
from simulations.benchmarks.gpu.results import RESULTS_FILE, Results
from simulations.benchmarks.gpu.settings import GpuSettings, Plan
from simulations.benchmarks.gpu.speed import (
    COMPILE,
    MODELS,
    PLAIN,
    SPEED,
    measure_compile,
    measure_models,
    measure_plain,
    measure_speed,
)
from simulations.benchmarks.gpu.stages import Measure, Stage, run_stages


def _whole(measure: Callable[[Plan, Results], None]) -> Measure:
    """Make a stage that is finished when it returns; a forced end leaves its rows for the next call."""

    def measured(plan: Plan, results: Results, seconds: float) -> bool:
        measure(plan, results)
        return True

    return measured


STAGES = (
    Stage(MACHINE, 25, _whole(measure_machine)),
    Stage(GRAPHS, 25, _whole(check_graphs)),
    Stage(SPEED, 80, _whole(measure_speed)),
    Stage(BARE, 45, _whole(measure_bare)),
    Stage(FLOWER, 150, _whole(measure_flower)),  # a moment where Flower is not installed
    Stage(MODELS, 75, _whole(measure_models)),
    Stage(PLAIN, 30, _whole(measure_plain)),
    Stage(COMPILE, 75, _whole(measure_compile)),
    Stage(COMPARISON, 0, measure_comparison),
)
"""The most valuable first; the comparison gets what is left, and the next call continues it."""


def read_plan(words: Sequence[str] | None) -> tuple[Plan, Results]:
    """Read the command line, and return what to measure and where the figures belong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--seconds", type=float, default=Plan.seconds)
    parser.add_argument("--checkpoints", type=Path, help="default: in memory, or else in OUT")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--model", default=GpuSettings.model)
    parser.add_argument("--image-size", type=int, default=GpuSettings.image_size)
    given = parser.parse_args(words)
    settings = GpuSettings(model=given.model, image_size=given.image_size, device=given.device)
    memory = Path("/dev/shm")
    checkpoints = given.checkpoints or (memory / "fedbus-gpu" if memory.is_dir() else given.out / "checkpoints")
    plan = Plan(settings, checkpoints, packed=given.packed, seconds=given.seconds)
    return plan, Results(given.out / RESULTS_FILE)


def measure(plan: Plan, results: Results) -> int:
    """Run the stages that are left; return the exit status."""
    run_stages([stage for stage in STAGES if plan.packed or stage.name != COMPARISON], plan, results)
    print(f"Figures: {results.path}")
    return 1 if any("error" in figures for figures in results.read().values()) else 0


if __name__ == "__main__":
    sys.exit(measure(*read_plan(None)))
