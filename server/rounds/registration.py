"""Wait for sites, have them register, and resend messages to those that disconnected."""

import threading
import time
from collections.abc import Callable, Collection, Mapping

from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid

from fedbus.errors import RunError, SettingsError, listed
from fedbus.settings.schema import Settings
from fedbus.transport.messages import CONFIG, TRAINING, Instruction, Registration
from server.rounds.exchange import Exchange
from server.rounds.messaging import POLL_SECONDS, Participants, Replies, read_config, read_metrics, send_and_receive
from server.rounds.shares import check_shares, describe_shares

CONNECTION_POLL_SECONDS = 1.0
"""How often a deployment checks which sites are connected; every check is a call over the network."""

RETRY_SECONDS = 3.0
"""How long to wait before a message is sent again to sites that disconnected or have yet to approve the study."""

OnWait = Callable[[str], object]
"""Called with a description of what the run waits for."""


def register_sites(
    grid: Grid,
    sites: int | Mapping[int, str],
    instruction: Instruction,
    quorum: int,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait = lambda description: None,
    exchange: Exchange | None = None,
) -> Participants:
    """Wait for the sites and request a registration from each.

    Args:
        grid: Flower's grid.
        sites: The number of sites, or the names of the approved sites by node.
        instruction: The settings, for which the sites prepare their images.
        quorum: How many sites must be connected at the time limit; later ones take no part.
        timeout: Time limit in seconds.
        stop: Set it to end early.
        on_wait: Called with a description of what the run waits for.
        exchange: As in `Participants`.

    Raises:
        RunError: If too few sites connected or registered, two have the same name, or one has another site's name.
        SettingsError: If what a site prepared does not match the settings.
    """
    participants = Participants(approved=sites if isinstance(sites, Mapping) else {}, exchange=exchange)
    expected = len(sites) if isinstance(sites, Mapping) else sites
    nodes = wait_for_nodes(grid, expected, quorum, participants, timeout, stop, on_wait)
    replies = _request_registrations(grid, nodes, instruction, participants, timeout, stop, on_wait)
    if replies.failures:
        reasons = listed([f"{site} {reason}" for site, reason in replies.failures.items()])
        if len(replies.messages) < quorum:
            raise RunError(f"Not every site could register: {reasons}.", "Fix the listed sites, then start again.")
        on_wait(f"continues without some sites: {reasons}")
        participants.failures.update(replies.failures)
    for message in replies.messages.values():
        node = message.metadata.src_node_id
        registration = _read_registration(message, participants.name(node))
        if registration.site in participants.names:
            raise RunError(f"Two sites are called {registration.site}.", "Give each site its own name.")
        if registration.site != participants.approved.get(node, registration.site):
            raise RunError(
                f"The site approved as {participants.approved[node]} calls itself {registration.site}.",
                "Approve its key again under the right name.",
            )
        participants.registrations[node] = registration
    _check_registrations(participants, instruction.settings)
    if participants.approved and instruction.task == TRAINING:  # otherwise nothing is averaged
        check_shares(participants, instruction.settings)
        on_wait(describe_shares(participants, instruction.settings))
    return participants


def _read_registration(message: Message, name: str) -> Registration:
    try:
        return Registration.from_records(read_config(message), read_metrics(message))
    except RunError as error:
        raise RunError(f"{name}: {error.problem}", error.remedy) from error


def _check_registrations(participants: Participants, settings: Settings) -> None:
    """Raise a SettingsError that names every site whose prepared images do not match the settings."""
    mismatches = [
        mismatch
        for registration in participants.registrations.values()
        if (mismatch := registration.mismatch(settings))
    ]
    if mismatches:
        raise SettingsError(
            f"{'; '.join(sorted(mismatches))}.", "Install the same version of FedBUS there, or leave that site out."
        )


def _request_registrations(
    grid: Grid,
    nodes: list[int],
    instruction: Instruction,
    participants: Participants,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait,
) -> Replies:
    """Request registrations, again and again while an operator has yet to approve the study."""
    deadline = time.monotonic() + timeout
    content = RecordDict({CONFIG: ConfigRecord(instruction.to_config())})
    while True:
        requests = [Message(content, node, MessageType.QUERY, ttl=timeout) for node in nodes]
        replies = send_and_receive(grid, requests, participants, deadline - time.monotonic(), stop)
        incomplete = replies.awaiting_approval or replies.disconnected
        if not incomplete or time.monotonic() + RETRY_SECONDS >= deadline:
            return replies
        if replies.awaiting_approval:
            on_wait(f"waiting until {', '.join(replies.awaiting_approval)} approve the study")
        if stop.wait(RETRY_SECONDS):
            raise KeyboardInterrupt


def wait_for_nodes(
    grid: Grid,
    expected: int,
    quorum: int,
    participants: Participants,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait = lambda description: None,
) -> list[int]:
    """Wait until the expected number of nodes is connected; at the time limit, the quorum is enough.

    Returns:
        The connected nodes of participants, or all connected nodes if no participant is known yet.

    Raises:
        RunError: If fewer nodes than the quorum are connected at the time limit; it names the missing ones.
        KeyboardInterrupt: If `stop` was set.
    """
    known = set(participants.approved) or set(participants.registrations)
    deadline, missing = time.monotonic() + timeout, ""
    while True:
        nodes = sorted(node for node in grid.get_node_ids() if node in known or not known)
        if len(nodes) >= expected:
            return nodes
        absent = ", ".join(sorted(participants.name(node) for node in known - set(nodes)))
        if absent and absent != missing:
            on_wait(f"waiting for {absent}")
        missing = absent
        if stop.wait(CONNECTION_POLL_SECONDS if participants.approved else POLL_SECONDS):
            raise KeyboardInterrupt
        if time.monotonic() > deadline:
            if len(nodes) >= quorum:
                return nodes
            raise _too_few_sites(len(nodes), quorum, timeout, missing)


def _too_few_sites(connected: int, quorum: int, timeout: float, missing: str) -> RunError:
    problem = f"Only {connected} of {quorum} sites connected within {timeout:.0f} s"
    if missing:
        return RunError(f"{problem}; {missing} did not.", "Start the missing sites, then rerun with --resume.")
    return RunError(f"{problem}.", f"Start the others; in a simulation by flwr run, set num-supernodes={quorum}.")


def send_until_quorum(
    grid: Grid,
    make_messages: Callable[[Collection[str]], list[Message]],
    participants: Participants,
    quorum: int,
    timeout: float,
    stop: threading.Event,
    on_wait: OnWait,
    array_bytes: int = 0,
) -> Replies:
    """Send messages; while fewer sites than the quorum reply, wait for disconnected ones and send to them again.

    Args:
        grid: Flower's grid.
        make_messages: Makes the messages, leaving out the sites that it is called with.
        participants: The sites.
        quorum: How many replies are enough.
        timeout: Time limit in seconds, for all attempts together.
        stop: Set it to end early.
        on_wait: Called with a description of what the run waits for.
        array_bytes: The most bytes of arrays in a reply, in a deployment.
    """
    deadline = time.monotonic() + timeout
    replies = send_and_receive(grid, make_messages(()), participants, timeout, stop, array_bytes)
    while len(replies.messages) < quorum and replies.disconnected and time.monotonic() + RETRY_SECONDS < deadline:
        on_wait(f"waiting for {', '.join(replies.disconnected)} to reconnect")
        if stop.wait(RETRY_SECONDS):
            raise KeyboardInterrupt
        wait_for_nodes(grid, quorum, quorum, participants, deadline - time.monotonic(), stop, on_wait)
        again = replies.disconnected
        messages = make_messages(replies.messages.keys() | (replies.failures.keys() - set(again)))
        retried = send_and_receive(
            grid, messages, participants, max(0.0, deadline - time.monotonic()), stop, array_bytes
        )
        replies = replies.updated(retried, again)
    return replies
