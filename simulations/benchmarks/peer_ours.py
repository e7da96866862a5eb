"""Our own federation, and the bare loop that it is measured against, for the table of `make bench-peers`.

python -m simulations.benchmarks.peer_ours SETTINGS.json OUT.json [--bare | --workers N]
"""

from dataclasses import replace
from pathlib import Path

import typer

from simulations.benchmarks.case import Case
from simulations.benchmarks.federation import Measured, run_bare, run_federated
from simulations.benchmarks.peer_result import Trained, measure
from simulations.benchmarks.site_work import SiteWork


def main(settings: Path, out: Path, bare: bool = False, workers: int = 1) -> None:
    """Train the case of a settings file as a simulation, or as the bare loop of `federation`, and write OUT."""

    def train(case: Case, folder: Path) -> Trained:
        case = replace(case, settings=case.settings.model_copy(update={"workers": workers}))
        return _trained(case, run_bare(case) if bare else run_federated(case, folder))

    measure(settings, out, train)


def _trained(case: Case, run: Measured) -> Trained:
    work = SiteWork(case.settings, case.sites)
    steps = sum(work.steps(name) for name in work.rows)
    return Trained(run.ends, [steps] * len(run.ends), run.final)


if __name__ == "__main__":
    program = typer.Typer(pretty_exceptions_enable=False)  # otherwise it prints local tensors
    program.command()(main)
    program()
