"""Send messages, collect replies: with a time limit, a way to stop, and the names of those who answered."""

import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from flwr.app import ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid

from fedbus.deployment.application import NOT_ALLOWED
from fedbus.errors import FedbusError, RunError
from fedbus.transport.messages import CONFIG, METRICS, Registration
from server.flower_internals import ErrorCode

POLL_SECONDS = 0.05

REMOTE_POLL_SECONDS = 0.5
"""In a deployment every question is a call to the SuperLink, which has other work to do."""

AWAY = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's codes for a site that was there and is gone, or a message that got lost with it."""


@dataclass
class Roster:
    """The sites of a federation, by node.

    Attributes:
        registrations: each node's introduction.
        approved: names that the hub's operator gave to nodes; empty in a simulation.
    """

    registrations: dict[int, Registration] = field(default_factory=dict)
    approved: Mapping[int, str] = field(default_factory=dict)

    def name(self, node: int) -> str:
        """The site's name; a node that has none yet goes by its number."""
        if node in self.approved:
            return self.approved[node]
        return self.registrations[node].site if node in self.registrations else f"node {node}"

    def registration(self, site: str) -> Registration:
        """How a site introduced itself."""
        return next(registration for registration in self.registrations.values() if registration.site == site)

    @property
    def names(self) -> list[str]:
        """All sites, sorted."""
        return sorted(registration.site for registration in self.registrations.values())

    @property
    def classes(self) -> tuple[int, ...]:
        """Classes that some site trains on, as positions in `CLASSES`."""
        return tuple(sorted(set().union(*(registration.classes for registration in self.registrations.values()))))


@dataclass
class Replies:
    """What came back within the time limit.

    Attributes:
        content: by site, sorted by name, so that sums do not depend on who answered first.
        failures: by site, why there is no content.
        codes: of the failures that are errors, by site.
    """

    content: dict[str, Message]
    failures: dict[str, str]
    codes: dict[str, int]

    @property
    def not_allowed(self) -> list[str]:
        """Sites whose operators have not approved the application."""
        return sorted(site for site, code in self.codes.items() if code == NOT_ALLOWED)

    @property
    def away(self) -> list[str]:
        """Sites that went away, with their message or their answer: what they were asked they may be asked again."""
        return sorted(site for site, code in self.codes.items() if code in AWAY)


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
    codes: dict[str, int] = {}
    deadline = time.monotonic() + timeout
    while waiting and time.monotonic() < deadline:
        if stop.is_set():
            raise KeyboardInterrupt
        for identifier in sorted(waiting):
            site = names[identifier]
            try:
                replies = list(grid.pull_messages([identifier]))
            except httpx.HTTPError:  # the hub, not the site
                raise
            except Exception as error:  # Flower rebuilds what a site sent, and a broken answer breaks it in any way
                failures[site] = f"its answer can't be read ({type(error).__name__})"
                waiting.discard(identifier)
                continue
            for reply in replies:
                waiting.discard(identifier)
                if reply.has_error():
                    failures[site] = f"failed: {reply.error.reason}"
                    codes[site] = reply.error.code
                else:
                    content[site] = reply
        time.sleep(REMOTE_POLL_SECONDS if roster.approved else POLL_SECONDS)
    for site in set(names.values()) - content.keys() - failures.keys():
        failures[site] = f"no answer within {timeout:.0f} s"
    return Replies(dict(sorted(content.items())), dict(sorted(failures.items())), codes)


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
    by_name = {registration.site: node for node, registration in roster.registrations.items()}
    return [by_name[name] for name in names]
