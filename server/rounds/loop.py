"""Run federated trainings one after another, each in the loop that its privacy needs."""

from collections.abc import Callable, Mapping, Sequence

from flwr.serverapp import Grid

from fedbus.settings.privacy_rules import SECURE
from fedbus.transport.messages import Instruction
from server.rounds.exchange import Exchange
from server.rounds.job import Job
from server.rounds.messaging import Participants
from server.rounds.registration import register_sites
from server.rounds.round_loop import RoundLoop
from server.rounds.secure_loop import SecureRoundLoop

REGISTRATION_SECONDS = 600.0
"""How long the sites of a simulation may take to start and to read their datasets."""


def run_jobs(
    grid: Grid,
    sites: int | Mapping[int, str],
    jobs: Sequence[Job],
    registration_timeout: float = REGISTRATION_SECONDS,
    on_registered: Callable[[Participants], object] = lambda participants: None,
    on_finished: Callable[[Job], object] = lambda job: None,
    exchange: Exchange | None = None,
) -> None:
    """Register the sites, then run one federated training after another with them.

    Args:
        grid: Flower's grid.
        sites: The number of sites, or the names of the approved sites by node.
        jobs: At least one; they have the same settings and sites.
        registration_timeout: Seconds within which the sites must register.
        on_registered: Called with the sites that take part.
        on_finished: Called with every job that has finished.
        exchange: Where the arrays of messages are; None in a simulation.

    Raises:
        FedbusError: If the sites can't take part, or a job failed.
        KeyboardInterrupt: If `stop` of the jobs was set.
    """
    first = jobs[0]
    instruction = Instruction(
        first.settings, first.seed, (), title=first.title, run=first.run, arm=first.arm, sites=first.sites
    )
    quorum = first.settings.quorum or (sites if isinstance(sites, int) else len(sites))
    participants = register_sites(
        grid, sites, instruction, quorum, registration_timeout, first.stop, first.on_wait, exchange
    )
    on_registered(participants)
    for job in jobs:
        run_rounds(grid, participants, job)
        on_finished(job)


def run_rounds(grid: Grid, participants: Participants, job: Job) -> None:
    """Run a federated training from its start or its checkpoint to its end.

    Writes the best and the final weights, the history with participants and refusals, and each site's test scores of
    the best weights into the job's folder.

    Raises:
        RunError: If a round had fewer usable updates than the quorum; the checkpoint of the previous round is kept.
    """
    loop = SecureRoundLoop if job.settings.privacy == SECURE else RoundLoop
    loop(grid, participants, job).run()
