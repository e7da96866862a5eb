"""One federated training after another with the same sites."""

from collections.abc import Callable, Mapping, Sequence

from flwr.serverapp import Grid

from fedbus.transport.messages import Instruction
from server.rounds.loop import Job, run_rounds
from server.rounds.messaging import Roster
from server.rounds.registration import register_sites

REGISTRATION_SECONDS = 600.0
"""How long the sites may take to start and to read their archives."""


def train_all(
    grid: Grid,
    sites: int | Mapping[int, str],
    jobs: Sequence[Job],
    patience: float = REGISTRATION_SECONDS,
    on_registered: Callable[[Roster], object] = lambda roster: None,
) -> None:
    """Greet the sites, then run the jobs.

    Args:
        grid: Flower's.
        sites: how many there are, or the approved ones' names by node.
        jobs: at least one; they share study and sites.
        patience: seconds within which the sites must be there.
        on_registered: told who takes part.

    Raises:
        FedbusError: the sites can't take part, or a job failed.
        KeyboardInterrupt: the jobs' `stop` was set.
    """
    first = jobs[0]
    instruction = Instruction(first.settings, first.seed, (), title=first.title, run=first.run)
    quorum = first.settings.quorum or (sites if isinstance(sites, int) else len(sites))
    roster = register_sites(grid, sites, instruction, quorum, patience, first.stop, first.on_wait)
    on_registered(roster)
    for job in jobs:
        run_rounds(grid, roster, job)
