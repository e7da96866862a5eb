"""Our own federation with both engines, and the bare loop, for the table of `make bench-peers`.

python -m simulations.benchmarks.peer_ours SETTINGS.json OUT.json [--bare | --in-process | --workers N]
"""

import time
from dataclasses import replace
from pathlib import Path

import typer

from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from simulations.benchmarks.case import Case
from simulations.benchmarks.federation import run_bare, run_federated
from simulations.benchmarks.peer_result import Trained, measure
from simulations.benchmarks.site_work import SiteWork
from simulations.in_process import InProcessTraining


def main(settings: Path, out: Path, bare: bool = False, in_process: bool = False, workers: int = 1) -> None:
    """Train the case of a settings file as a simulation, in this process, or as the bare loop, and write OUT."""

    def train(case: Case, folder: Path) -> Trained:
        if in_process:
            return _train_in_process(case, folder)
        case = replace(case, settings=case.settings.model_copy(update={"workers": workers}))
        run = run_bare(case) if bare else run_federated(case, folder)
        return _trained(case, run.ends, run.final)

    measure(settings, out, train)


def _train_in_process(case: Case, folder: Path) -> Trained:
    """Train with `engine=in-process`, checkpoints included."""
    settings, arm, ends = case.settings, ArmFolder(folder / "fedavg"), list[float]()
    rows = SiteWork(settings, case.sites).rows
    InProcessTraining(
        settings, folder, case.sites, rows, "fedavg", settings.seeds[0], case.start, arm, "fedavg"
    ).run(lambda line: ends.append(time.time()))  # fmt: skip
    return _trained(case, ends, arm.load_weights("final"))


def _trained(case: Case, ends: list[float], final: State) -> Trained:
    work = SiteWork(case.settings, case.sites)
    steps = sum(work.steps(name) for name in work.rows)
    return Trained(ends, [steps] * len(ends), final)


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
