"""Send messages, collect replies: with a time limit, a way to stop, and the names of those who answered."""

import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from flwr.app import ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedbus.errors import FedbusError, RunError, listed
from fedbus.models import State
from fedbus.transport import ARRAYS, CONFIG, METRICS, Hello, to_state

POLL_SECONDS = 0.05


@dataclass
class Roster:
    """The sites of a federation, by node.

    Attributes:
        hellos: each node's introduction.
    """

    hellos: dict[int, Hello] = field(default_factory=dict)

    def name(self, node: int) -> str:
        """The site's name; a node that never introduced itself goes by its number."""
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
    """

    content: dict[str, Message]
    failures: dict[str, str]


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
    deadline = time.monotonic() + timeout
    while waiting and time.monotonic() < deadline:
        if stop.is_set():
            raise KeyboardInterrupt
        for reply in grid.pull_messages(waiting):
            waiting.discard(reply.metadata.reply_to_message_id)
            site = names[reply.metadata.reply_to_message_id]
            if reply.has_error():
                failures[site] = f"failed: {reply.error.reason}"
            else:
                content[site] = reply
        time.sleep(POLL_SECONDS)
    for site in set(names.values()) - content.keys() - failures.keys():
        failures[site] = f"no answer within {timeout:.0f} s"
    return Replies(dict(sorted(content.items())), dict(sorted(failures.items())))


def greet(grid: Grid, expected: int, timeout: float, stop: threading.Event) -> Roster:
    """Wait for the expected number of nodes and let each introduce itself.

    Raises:
        RunError: too few nodes came, one could not read its data, or two sites share a name.
    """
    nodes = wait_for_nodes(grid, expected, timeout, stop)
    roster = Roster()
    questions = [Message(RecordDict(), node, MessageType.QUERY) for node in nodes]
    replies = exchange(grid, questions, roster, timeout, stop)
    if replies.failures:
        said = [f"{site} {why}" for site, why in replies.failures.items()]
        raise RunError(f"Not every site could introduce itself: {listed(said)}.", "Mend its archive, then start again.")
    for message in replies.content.values():
        hello = Hello.from_records(config_of(message), metrics_of(message))
        if hello.site in roster.names:
            raise RunError(f"Two sites call themselves {hello.site}.", "Give each site its own name.")
        roster.hellos[message.metadata.src_node_id] = hello
    return roster


def wait_for_nodes(grid: Grid, expected: int, timeout: float, stop: threading.Event) -> list[int]:
    """Wait until so many nodes are connected.

    Raises:
        RunError: fewer came within the time limit.
        KeyboardInterrupt: `stop` was set.
    """
    deadline = time.monotonic() + timeout
    while len(nodes := sorted(grid.get_node_ids())) < expected:
        if stop.is_set():
            raise KeyboardInterrupt
        if time.monotonic() > deadline:
            raise RunError(
                f"Only {len(nodes)} of {expected} sites were there within {timeout:.0f} s.",
                f"Start the others; in a simulation by flwr run, set num-supernodes={expected}.",
            )
        time.sleep(POLL_SECONDS)
    return nodes


def config_of(message: Message) -> dict[str, Any]:
    """The config record of a message."""
    return dict(cast(ConfigRecord, _part(message, CONFIG)))


def metrics_of(message: Message) -> dict[str, Any]:
    """The metric record of a message."""
    return dict(cast(MetricRecord, _part(message, METRICS)))


def state_of(message: Message) -> State:
    """The model in a message."""
    try:
        return to_state({key: array.numpy() for key, array in cast(ArrayRecord, _part(message, ARRAYS)).items()})
    except (ValueError, TypeError, EOFError) as error:
        raise RunError(
            f"A site's arrays can't be read ({error}).", "Run the same version of FedBUS everywhere."
        ) from error


def _part(message: Message, name: str) -> object:
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
