"""Who is there: wait for sites, let them introduce themselves, and ask those again that went away."""

import threading
import time
from collections.abc import Callable, Collection, Mapping

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedbus.errors import RunError, SettingsError, listed
from fedbus.settings.schema import Settings
from fedbus.transport.messages import CONFIG, Instruction, Registration
from server.rounds.messaging import POLL_SECONDS, Replies, Roster, config_of, exchange, metrics_of

PRESENCE_SECONDS = 1.0
"""How often the hub is asked which sites are there: in a deployment every question is a call over the network."""

AGAIN_SECONDS = 3.0
"""How often sites are asked again that went away, or whose operators have yet to approve the application."""

OnWait = Callable[[str], object]
"""Told, in words, what a run waits for."""


def register_sites(
    grid: Grid,
    sites: int | Mapping[int, str],
    instruction: Instruction,
    quorum: int,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait = lambda words: None,
) -> Roster:
    """Wait for the sites and let each introduce itself.

    Args:
        grid: Flower's.
        sites: how many there are, or the approved ones' names by node.
        instruction: what the study is about, for sites that prepare their images for it.
        quorum: so many must be there when the time is over; who comes later takes no part.
        timeout: seconds.
        stop: set to end early.
        on_wait: told for whom the run waits.

    Raises:
        RunError: too few nodes came or could introduce themselves, two share a name, or one has another's.
        SettingsError: what a site prepared does not fit the study.
    """
    roster = Roster(approved=sites if isinstance(sites, Mapping) else {})
    wanted = len(sites) if isinstance(sites, Mapping) else sites
    nodes = wait_for_nodes(grid, wanted, quorum, roster, timeout, stop, on_wait)
    replies = _ask(grid, nodes, instruction, roster, timeout, stop, on_wait)
    if replies.failures:
        said = listed([f"{site} {why}" for site, why in replies.failures.items()])
        if len(replies.content) < quorum:
            raise RunError(f"Not every site could introduce itself: {said}.", "Mend that there, then start again.")
        on_wait(f"goes on without some: {said}")
    for message in replies.content.values():
        node, registration = (
            message.metadata.src_node_id,
            Registration.from_records(config_of(message), metrics_of(message)),
        )
        if registration.site in roster.names:
            raise RunError(f"Two sites call themselves {registration.site}.", "Give each site its own name.")
        if registration.site != roster.approved.get(node, registration.site):
            raise RunError(
                f"{roster.approved[node]} calls itself {registration.site}.",
                "Approve the key again under the right name.",
            )
        roster.registrations[node] = registration
    _check_fit(roster, instruction.settings)
    return roster


def _check_fit(roster: Roster, settings: Settings) -> None:
    """Raise SettingsError naming every site that prepared something else than the study is about."""
    misfits = [misfit for registration in roster.registrations.values() if (misfit := registration.misfit(settings))]
    if misfits:
        raise SettingsError(
            f"{'; '.join(sorted(misfits))}.", "Install the same version of FedBUS there, or leave that site out."
        )


def _ask(
    grid: Grid,
    nodes: list[int],
    instruction: Instruction,
    roster: Roster,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait,
) -> Replies:
    """Ask nodes to introduce themselves, again and again while an operator has yet to approve the application."""
    deadline = time.monotonic() + timeout
    content = RecordDict({CONFIG: ConfigRecord(instruction.to_config())})
    while True:
        questions = [Message(content, node, MessageType.QUERY, ttl=timeout) for node in nodes]
        replies = exchange(grid, questions, roster, deadline - time.monotonic(), stop)
        late = replies.not_allowed or replies.away
        if not late or time.monotonic() + AGAIN_SECONDS >= deadline:
            return replies
        if replies.not_allowed:
            on_wait(f"waiting until {', '.join(replies.not_allowed)} approve the application")
        if stop.wait(AGAIN_SECONDS):
            raise KeyboardInterrupt


def wait_for_nodes(
    grid: Grid,
    wanted: int,
    quorum: int,
    roster: Roster,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait = lambda words: None,
) -> list[int]:
    """Wait until so many of the roster's nodes are connected; when the time is over, the quorum is enough.

    Raises:
        RunError: fewer came within the time limit; those that are missing are named.
        KeyboardInterrupt: `stop` was set.
    """
    ours = set(roster.approved) or set(roster.registrations)
    deadline, missing = time.monotonic() + timeout, ""
    while True:
        nodes = sorted(node for node in grid.get_node_ids() if node in ours or not ours)
        if len(nodes) >= wanted:
            return nodes
        absent = ", ".join(sorted(roster.name(node) for node in ours - set(nodes)))
        if absent and absent != missing:
            on_wait(f"waiting for {absent}")
        missing = absent
        if stop.wait(PRESENCE_SECONDS if roster.approved else POLL_SECONDS):
            raise KeyboardInterrupt
        if time.monotonic() > deadline:
            if len(nodes) >= quorum:
                return nodes
            raise _too_few(len(nodes), quorum, timeout, missing)


def _too_few(there: int, quorum: int, timeout: float, missing: str) -> RunError:
    problem = f"Only {there} of {quorum} sites were there within {timeout:.0f} s"
    if missing:
        return RunError(f"{problem}; {missing} did not come.", "Start them there, then go on with --resume.")
    return RunError(f"{problem}.", f"Start the others; in a simulation by flwr run, set num-supernodes={quorum}.")


def exchange_with_quorum(
    grid: Grid,
    make: Callable[[Collection[str]], list[Message]],
    roster: Roster,
    quorum: int,
    limit: float,
    stop: threading.Event,
    on_wait: OnWait,
) -> Replies:
    """Exchange messages; while fewer answer than the quorum, those that went away are waited for and asked again.

    Args:
        grid: Flower's.
        make: makes the messages, but none for the sites that it is given.
        roster: the sites.
        quorum: how many answers are enough.
        limit: seconds for all of it.
        stop: set to end early.
        on_wait: told for whom the run waits.
    """
    deadline = time.monotonic() + limit
    replies = exchange(grid, make(()), roster, limit, stop)
    while len(replies.content) < quorum and replies.away and time.monotonic() + AGAIN_SECONDS < deadline:
        on_wait(f"waiting for {', '.join(replies.away)}, who went away")
        if stop.wait(AGAIN_SECONDS):
            raise KeyboardInterrupt
        wait_for_nodes(grid, quorum, quorum, roster, deadline - time.monotonic(), stop, on_wait)
        kept = {site: why for site, why in replies.failures.items() if site not in replies.away}
        left = max(0.0, deadline - time.monotonic())
        more = exchange(grid, make(replies.content.keys() | kept.keys()), roster, left, stop)
        replies = Replies(
            dict(sorted((replies.content | more.content).items())),
            dict(sorted((kept | more.failures).items())),
            {site: code for site, code in replies.codes.items() if site in kept} | more.codes,
        )
    return replies
