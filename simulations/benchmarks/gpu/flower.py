"""The simulation with Flower and Ray on one GPU, with one to three workers, where these packages are installed."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from simulations.benchmarks.gpu.bare import ROUNDS, SITES, list_sizes
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import Plan

FLOWER = "flower"
"""Name of the stage."""

PHANTOMS = 180
"""Images of each site."""

LONGER = 4
"""How many times more steps a round has than in the other stages: about as many as one of three public datasets needs
(docs/gpu.md). Messages take as long whatever a round trains, so a short round would make them look expensive."""

TOLERANCE = 1.03
"""How much longer a round may take with fewer workers for these to be chosen."""


def measure_flower(plan: Plan, results: Results) -> None:
    """Measure rounds with one to three workers over those of the bare loop, on phantoms."""
    try:
        from simulations.benchmarks.case import make_case
        from simulations.benchmarks.federation import measure, measure_workers
    except ImportError as error:
        results.add(FLOWER, {"missing": str(error)})
        return
    with TemporaryDirectory() as name:
        folder = Path(name)
        case = make_case(folder, flower_settings(plan))
        one = measure(case, folder)
        results.add(FLOWER, one)
        results.add_row(FLOWER, _row(1, one["round_s"], one["federation_startup_s"], one["bare_round_s"]))
        for workers in range(2, SITES + 1):
            results.add_row(FLOWER, _row(workers, *measure_workers(case, folder, workers), one["bare_round_s"]))
    results.add(FLOWER, {"workers": choose_workers(results.of(FLOWER)["rows"])})


def flower_settings(plan: Plan) -> dict[str, Any]:
    """Return the settings of the simulation, with TOML's keys."""
    return {key.replace("_", "-"): value for key, value in vars(plan.settings).items()} | {
        "batch-size": list_sizes(plan)[0],
        "steps-per-round": LONGER * plan.epoch_steps,
        "weights": "none",
        "phantom-images": PHANTOMS,
        "rounds": ROUNDS,
        "arms": ["fedavg"],
        "workers": 1,
    }


def _row(workers: int, round_s: float, startup_s: float, bare_round_s: float) -> dict[str, Any]:
    return {"workers": workers, "round_s": round_s, "over_bare": round_s / bare_round_s, "startup_s": startup_s}


def choose_workers(rows: Sequence[dict[str, Any]]) -> int:
    """Choose the fewest workers, which need the least memory, whose round is hardly longer than the shortest."""
    fastest = min(row["round_s"] for row in rows)
    return min(int(row["workers"]) for row in rows if row["round_s"] <= TOLERANCE * fastest)
