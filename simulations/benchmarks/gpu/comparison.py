"""The whole comparison of packed datasets, as far as the time allows; continued by the next call."""

import statistics
import time
from pathlib import Path
from typing import Any

from fedbus.device import pick_device
from fedbus.runs.lock import hold_folder
from fedbus.training.cuda_graph import cuda_graphs
from simulations.benchmarks.gpu.machine import graphs_work
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import Plan
from simulations.benchmarks.gpu.speed import peak_megabytes
from simulations.portable.results_file import PackedResults
from simulations.portable.run import RESULTS_FILE, run, start_weights
from simulations.portable.study_file import STUDY_FILE, PackedStudy

COMPARISON = "comparison"
"""Name of the stage, and of the folder of its results."""


def measure_comparison(plan: Plan, results: Results, seconds: float) -> bool:
    """Train the packed study.

    Args:
        plan: What to measure, with the packed study.
        results: Where the figures belong; the predictions are written beside them.
        seconds: The budget; the round in which it ends is finished.

    Returns:
        Whether all of it is finished.
    """
    assert plan.packed
    out, file = results.path.parent / COMPARISON, plan.packed / STUDY_FILE
    study, started = PackedStudy.load(file), time.monotonic()
    with hold_folder(out), hold_folder(plan.checkpoints), cuda_graphs(graphs_work(results)):
        left = run(study, out, start_weights(study, file), seconds, plan.checkpoints)
    earlier = results.of(COMPARISON)
    peaks = (earlier.get("peak_mb"), peak_megabytes(pick_device(plan.settings.device)))
    results.add(
        COMPARISON,
        describe(out / RESULTS_FILE)
        | {
            "calls_s": [*earlier.get("calls_s", []), time.monotonic() - started],
            "left": [f"fold {fold} {arm.name}" for fold, arm in left],
            "peak_mb": max(filter(None, peaks), default=None),  # over all calls
        },
    )
    return not left


def describe(path: Path) -> dict[str, Any]:
    """Summarise the finished trainings: seconds of each, and of a federated round the share outside the sites' work."""
    trainings = PackedResults.load(path).trainings if path.is_file() else []
    rounds = [line for entry in trainings for line in entry["history"] if line.get("site_seconds")]
    outside = [line["seconds"] - sum(line["site_seconds"].values()) for line in rounds]
    return {
        "trainings": [
            {key: entry[key] for key in ("fold", "arm", "seed")}
            | {key: entry["facts"][key] for key in ("seconds", "steps")}
            for entry in trainings
        ],
        "training_s": sum(entry["facts"]["seconds"] for entry in trainings),
        "federated_round_s": statistics.median(line["seconds"] for line in rounds) if rounds else None,
        "outside_sites_s": statistics.median(outside) if outside else None,
    }
