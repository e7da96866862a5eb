"""The ServerApp's part of a deployed run: every arm of a prepared run folder, trained with the approved sites."""

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
from fedbus.runs.lock import RUNNING
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.system.files import delete_fragments, read_json, write_json
from fedbus.system.locks import hold, is_held
from fedbus.tracking.tracker import Tracker, open_tracker
from fedbus.transport.stored_arrays import FOLDER
from server.hub.evaluation_run import GIVEN, evaluate_given
from server.hub.model_folder import write_hub_model
from server.hub.registrations import record_registrations
from server.hub.run_status import State, Status, read_status, write_status
from server.rounds.exchange import Exchange, open_exchange
from server.rounds.job import Job
from server.rounds.loop import run_jobs

PLAN_FILE = "deployment.json"
"""In the run folder: the run's title, the nodes of the approved sites by name, and the list that sites are sent."""

END_SECONDS = 60.0
"""How long a run that lost its hub may take to notice and to end."""


def prepare_deployment(
    out: Path, title: str, nodes: dict[str, int], roster: tuple[str, ...], timeout: float = END_SECONDS
) -> None:
    """Write what the ServerApp needs besides the settings: the sites that may take part, and the run's title.

    Args:
        out: The run folder.
        title: The run's name.
        nodes: The nodes of the approved sites, by name.
        roster: The same sites with their keys, as in `Instruction`.
        timeout: How long to wait for a former run on the folder to end, in seconds.

    Raises:
        RunError: If another run is using the folder.
    """
    deadline = time.monotonic() + timeout
    while is_held(out / RUNNING):
        if time.monotonic() > deadline:
            raise RunError(f"A run is using {out}.", "Wait for it to end; fedbus hub status shows its progress.")
        time.sleep(0.2)
    write_json(out / PLAN_FILE, {"title": title, "nodes": nodes, "sites": list(roster)})
    write_status(out, Status("starting"))


def run_deployment(grid: Grid, out: Path) -> None:
    """Train every unfinished arm of the run folder, or evaluate the model given in it; keep its status up to date.

    Raises:
        FedbusError: If the sites can't take part, or an arm failed; what was finished is kept for --resume.
    """
    with hold(out / RUNNING, f"A run is using {out}", "Wait for it to end; fedbus hub status shows its progress."):
        delete_fragments(out / "arms")
        # Flower starts this process and discards its exception, so the status is how the operator learns of it.
        try:
            with open_exchange(grid, out.parents[1] / FOLDER) as exchange:  # run folders are in HUB/runs
                if (out / GIVEN).exists():
                    evaluate_given(grid, out, _approved_names(out), _roster(out), exchange)
                else:
                    _train_unfinished(grid, out, exchange)
        except FedbusError as error:
            write_status(out, Status("failed", error.problem, remedy=error.remedy))
            raise
        except Exception as error:
            write_status(out, Status("failed", f"{type(error).__name__}: {error}", remedy="See hub.log of the hub."))
            raise


def _train_unfinished(grid: Grid, out: Path, exchange: Exchange | None) -> None:
    settings, plan = read_settings(out), read_json(out / PLAN_FILE)
    # What this process prints is in hub.log; the command that follows the run sends what is missing at its end.
    with open_tracker(settings, out, lambda text: print(text, flush=True)) as tracker:
        jobs = _unfinished_jobs(settings, out, plan["title"], tracker)
        if jobs:
            run_jobs(
                grid,
                _approved_names(out),
                jobs,
                settings.round_timeout,
                on_registered=lambda participants: record_registrations(out, participants),
                on_finished=lambda job: write_hub_model(out, settings, job.arm, job.seed),
                exchange=exchange,
            )
    write_status(out, Status("finished"))


def _approved_names(out: Path) -> dict[int, str]:
    """Return the names of the sites that may take part, by node."""
    return {int(node): name for name, node in read_json(out / PLAN_FILE)["nodes"].items()}


def _roster(out: Path) -> tuple[str, ...]:
    """Return the list of sites that every site is sent."""
    return tuple(read_json(out / PLAN_FILE)["sites"])


def model_title(run: str, arm: str, seed: int) -> str:
    """The name of the folder in which sites keep the model of one arm and seed."""
    return f"{run}-{arm}-{seed}"


def _unfinished_jobs(settings: Settings, out: Path, title: str, tracker: Tracker) -> list[Job]:
    starts = {seed: start_state(settings.model, settings.weights, derive_seed(seed, "init")) for seed in settings.seeds}
    check_same_start(starts, out)
    jobs, run = list[Job](), run_id(out)
    for seed in settings.seeds:
        for arm in settings.federated_arms:
            folder, writer = arm_folder(out, settings, arm, seed), _StatusWriter(out, settings, arm, seed, tracker)
            if not folder.finished:
                jobs.append(
                    Job(
                        settings, arm, seed, starts[seed], folder, title=model_title(title, arm, seed), run=run,
                        sites=_roster(out), on_round=writer.round_finished, on_wait=writer.waiting,
                    )
                )  # fmt: skip
    return jobs


@dataclass
class _StatusWriter:
    """Writes the progress of one arm into the run's status, and tracks its rounds."""

    out: Path
    settings: Settings
    arm: str
    seed: int
    tracker: Tracker
    round: int = 0

    def __post_init__(self) -> None:
        self.track = self.tracker.follow(self.arm, self.seed)

    def round_finished(self, line: dict[str, Any]) -> None:
        self.track(line)
        self.round, left = line["round"], self.settings.rounds - line["round"]
        remaining = f"; about {wording.duration(left * line['seconds'])} left" if left else ""
        self._write("training", format_round(line) + remaining)

    def waiting(self, reason: str) -> None:
        self._write("waiting", reason)

    def _write(self, state: State, words: str) -> None:
        current = read_status(self.out)
        if current and current.state == "stopped":
            return  # the operator has ended the run, and Flower is about to end this process
        write_status(self.out, Status(state, words, self.arm, self.seed, self.round, self.settings.rounds))


def format_round(line: dict[str, Any]) -> str:
    """Describe a finished round in one line, from its entry in the history."""
    refused = "".join(f"; refused {site}: {why}" for site, why in line["refused"].items())
    return (
        f"round {line['round']}: {_loss_or_epsilon(line)}, {line['seconds']:.1f} s, "
        f"{', '.join(line['participants'])} took part{refused}"
    )


def _loss_or_epsilon(line: dict[str, Any]) -> str:
    """The training loss; with differential privacy, which does not protect it, the largest epsilon instead."""
    return f"epsilon {max(line['epsilon'].values()):.2f}" if line.get("epsilon") else f"loss {line['train_loss']:.3f}"
