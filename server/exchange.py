"""Send messages, collect replies: with a time limit, a way to stop, and the names of those who answered."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from flwr.app import ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedbus.errors import FedbusError, RunError, listed
from fedbus.transport import CONFIG, METRICS, NOT_ALLOWED, Hello, Order

POLL_SECONDS = 0.05

PRESENCE_SECONDS = 1.0
"""How often the hub is asked which sites are there: in a deployment every question is a call over the network."""

APPROVAL_SECONDS = 3.0
"""How often sites are asked again whose operators have yet to approve the application."""

Tell = Callable[[str], object]
"""Told, in words, what a run waits for."""


@dataclass
class Roster:
    """The sites of a federation, by node.

    Attributes:
        hellos: each node's introduction.
        approved: names that the hub's operator gave to nodes; empty in a simulation.
    """

    hellos: dict[int, Hello] = field(default_factory=dict)
    approved: Mapping[int, str] = field(default_factory=dict)

    def name(self, node: int) -> str:
        """The site's name; a node that has none yet goes by its number."""
        if node in self.approved:
            return self.approved[node]
        return self.hellos[node].site if node in self.hellos else f"node {node}"

    @property
    def names(self) -> list[str]:
        """All sites, sorted."""
        return sorted(hello.site for hello in self.hellos.values())

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes that some site trains on, as positions in `CLASSES`."""
        return tuple(sorted(set().union(*(hello.classes for hello in self.hellos.values()))))


@dataclass
class Replies:
    """What came back within the time limit.

    Attributes:
        content: by site, sorted by name, so that sums do not depend on who answered first.
        failures: by site, why there is no content.
        not_allowed: sites whose operators have not approved the application.
    """

    content: dict[str, Message]
    failures: dict[str, str]
    not_allowed: list[str]


def exchange(grid: Grid, messages: Iterable[Message], roster: Roster, timeout: float, stop: threading.Event) -> Replies:
    """Push messages and wait for the replies until the time limit.

    Raises:
        KeyboardInterrupt: `stop` was set.
    """
    outgoing = list(messages)
    waiting = set(grid.push_messages(outgoing))
    # By message, not by sender: an error that Flower makes on a site's behalf carries Flower's own node number.
    names = {message.metadata.message_id: roster.name(message.metadata.dst_node_id) for message in outgoing}
    del outgoing
    content: dict[str, Message] = {}
    failures: dict[str, str] = {}
    not_allowed: list[str] = []
    deadline = time.monotonic() + timeout
    while waiting and time.monotonic() < deadline:
        if stop.is_set():
            raise KeyboardInterrupt
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            site = names[reply.metadata.reply_to_message_id]
            if reply.has_error():
                failures[site] = f"failed: {reply.error.reason}"
                not_allowed += [site] if reply.error.code == NOT_ALLOWED else []
            else:
                content[site] = reply
        time.sleep(POLL_SECONDS)
    for site in set(names.values()) - content.keys() - failures.keys():
        failures[site] = f"no answer within {timeout:.0f} s"
    return Replies(dict(sorted(content.items())), dict(sorted(failures.items())), sorted(not_allowed))


def greet(
    grid: Grid,
    sites: int | Mapping[int, str],
    order: Order,
    quorum: int,
    timeout: float,
    stop: threading.Event,
    tell: Tell = lambda words: None,
) -> Roster:
    """Wait for the sites and let each introduce itself.

    Args:
        grid: Flower's.
        sites: how many there are, or the approved ones' names by node.
        order: what the study is about, for sites that prepare their images for it.
        quorum: so many must be there when the time is over; who comes later takes no part.
        timeout: seconds.
        stop: set to end early.
        tell: told for whom the run waits.

    Raises:
        RunError: too few nodes came, one could not read its data, calls itself by another's name, or two share one.
        SettingsError: what a site prepared does not fit the study.
    """
    roster = Roster(approved=sites if isinstance(sites, Mapping) else {})
    wanted = len(sites) if isinstance(sites, Mapping) else sites
    nodes = wait_for_nodes(grid, wanted, quorum, roster, timeout, stop, tell)
    replies = _ask(grid, nodes, order, roster, timeout, stop, tell)
    if replies.failures:
        said = [f"{site} {why}" for site, why in replies.failures.items()]
        raise RunError(f"Not every site could introduce itself: {listed(said)}.", "Mend that there, then start again.")
    for message in replies.content.values():
        node, hello = message.metadata.src_node_id, Hello.from_records(config_of(message), metrics_of(message))
        if hello.site in roster.names:
            raise RunError(f"Two sites call themselves {hello.site}.", "Give each site its own name.")
        if hello.site != roster.approved.get(node, hello.site):
            raise RunError(
                f"{roster.approved[node]} calls itself {hello.site}.", "Approve the key again under the right name."
            )
        hello.check_fits(order.study)
        roster.hellos[node] = hello
    return roster


def _ask(
    grid: Grid, nodes: list[int], order: Order, roster: Roster, timeout: float, stop: threading.Event, tell: Tell
) -> Replies:
    """Ask nodes to introduce themselves, again and again while an operator has yet to approve the application."""
    deadline = time.monotonic() + timeout
    content = RecordDict({CONFIG: ConfigRecord(order.to_config())})
    while True:
        left = max(0.0, deadline - time.monotonic())
        questions = [Message(content, node, MessageType.QUERY, ttl=timeout) for node in nodes]
        replies = exchange(grid, questions, roster, left, stop)
        if not replies.not_allowed or left == 0:
            return replies
        tell(f"waiting until {', '.join(replies.not_allowed)} approve the application")
        if stop.wait(APPROVAL_SECONDS):
            raise KeyboardInterrupt


def wait_for_nodes(
    grid: Grid,
    wanted: int,
    quorum: int,
    roster: Roster,
    timeout: float,
    stop: threading.Event,
    tell: Tell = lambda words: None,
) -> list[int]:
    """Wait until so many of the roster's nodes are connected; when the time is over, the quorum is enough.

    Raises:
        RunError: fewer came within the time limit; those that are missing are named.
        KeyboardInterrupt: `stop` was set.
    """
    ours = set(roster.approved) or set(roster.hellos)
    deadline, missing = time.monotonic() + timeout, ""
    while True:
        nodes = sorted(node for node in grid.get_node_ids() if node in ours or not ours)
        if len(nodes) >= wanted:
            return nodes
        absent = ", ".join(sorted(roster.name(node) for node in ours - set(nodes)))
        if absent and absent != missing:
            tell(f"waiting for {absent}")
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


def config_of(message: Message) -> dict[str, Any]:
    """The config record of a message."""
    return dict(cast(ConfigRecord, part_of(message, CONFIG)))


def metrics_of(message: Message) -> dict[str, Any]:
    """The metric record of a message."""
    return dict(cast(MetricRecord, part_of(message, METRICS)))


def part_of(message: Message, name: str) -> object:
    """One record of a message.

    Raises:
        RunError: there is none of that name.
    """
    if name not in message.content:
        raise RunError(f"A site's message has no {name!r}.", "Run the same version of FedBUS everywhere.")
    return message.content[name]


def explain(error: FedbusError) -> str:
    """An error as one clause for a record of refusals."""
    return f"{error.problem} {error.remedy}"


def nodes_named(roster: Roster, names: Sequence[str]) -> list[int]:
    """Nodes of the named sites, in the order of the names."""
    by_name = {hello.site: node for node, hello in roster.hellos.items()}
    return [by_name[name] for name in names]
