"""The ServerApp's work in a deployment: all arms of a prepared run folder, with the sites that the hub approved."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flwr.serverapp import Grid

from fedbus.errors import FedbusError, RunError
from fedbus.models.start import start_state
from fedbus.reports import wording
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import check_same_start, read_settings, run_id
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json
from fedbus.system.locks import hold, is_held
from server.hub.registrations import record_registrations
from server.hub.run_status import RUNNING, State, Status, read_status, write_status
from server.rounds.loop import Job
from server.rounds.train_all import train_all

PLAN_FILE = "deployment.json"
"""In the run folder: the approved sites' nodes by name, and the run's title."""


ENDING_SECONDS = 60.0
"""How long a run that was cut off from its hub may take to notice it and to end."""


def prepare_deployment(out: Path, title: str, nodes: dict[str, int], patience: float = ENDING_SECONDS) -> None:
    """Write what the ServerApp needs besides the study: who may take part, and what the run is called.

    Args:
        out: the run folder.
        title: what the run is called.
        nodes: the approved sites' nodes by name.
        patience: seconds within which a run that is ending must have let go of the folder.

    Raises:
        RunError: another run is working on the folder.
    """
    deadline = time.monotonic() + patience
    while is_held(out / RUNNING):
        if time.monotonic() > deadline:
            raise RunError(f"A run is working on {out}.", "Wait for it; fedbus hub status says how it goes.")
        time.sleep(0.2)
    write_json(out / PLAN_FILE, {"title": title, "nodes": nodes})
    write_status(out, Status("starting"))


def run_deployment(grid: Grid, out: Path) -> None:
    """Train every arm of the run folder that is not finished, and say in its status how it goes.

    Raises:
        FedbusError: the sites can't take part, or an arm failed; what was finished is kept for --resume.
    """
    with hold(out / RUNNING, f"{out} is being worked on", "Wait for that run; fedbus hub status says how it goes."):
        try:
            _run(grid, out)
        except FedbusError as error:
            write_status(out, Status("failed", error.problem, remedy=error.remedy))
            raise
        except Exception as error:
            write_status(out, Status("failed", f"{type(error).__name__}: {error}", remedy="See the hub's hub.log."))
            raise


def _run(grid: Grid, out: Path) -> None:
    settings, plan = read_settings(out), read_json(out / PLAN_FILE)
    jobs = _open_jobs(settings, out, plan["title"])
    names = {int(node): name for name, node in plan["nodes"].items()}
    if jobs:
        train_all(grid, names, jobs, settings.round_timeout, lambda roster: record_registrations(out, roster))
    write_status(out, Status("finished"))


def title_of(run: str, arm: str, seed: int) -> str:
    """What sites call the model of one arm and seed."""
    return f"{run}-{arm}-{seed}"


def _open_jobs(settings: Settings, out: Path, title: str) -> list[Job]:
    starts = {seed: start_state(settings.model, settings.weights, derive_seed(seed, "init")) for seed in settings.seeds}
    check_same_start(starts, out)
    jobs, run = list[Job](), run_id(out)
    for seed in settings.seeds:
        for arm in settings.federated_arms:
            folder, teller = arm_folder(out, settings, arm, seed), _Teller(out, settings, arm, seed)
            if not folder.finished:
                name = title_of(title, arm, seed)
                jobs.append(
                    Job(settings, arm, seed, starts[seed], folder, name, run, teller.round_done, teller.waiting)
                )
    return jobs


@dataclass
class _Teller:
    """Says in the run's status how one arm goes."""

    out: Path
    settings: Settings
    arm: str
    seed: int
    round: int = 0

    def round_done(self, line: dict[str, Any]) -> None:
        self.round, left = line["round"], self.settings.rounds - line["round"]
        ahead = f"; about {wording.duration(left * line['seconds'])} left" if left else ""
        self._write("training", format_round(line) + ahead)

    def waiting(self, what: str) -> None:
        self._write("waiting", what)

    def _write(self, state: State, what: str) -> None:
        at = read_status(self.out)
        if at and at.state == "stopped":
            return  # the operator has ended the run, and Flower will end this process
        write_status(self.out, Status(state, what, self.arm, self.seed, self.round, self.settings.rounds))


def format_round(line: dict[str, Any]) -> str:
    """One finished round in words."""
    refused = "".join(f"; refused {site}: {why}" for site, why in line["refused"].items())
    return (
        f"round {line['round']}: loss {line['train_loss']:.3f}, {line['seconds']:.1f} s, "
        f"{', '.join(line['participants'])} took part{refused}"
    )
