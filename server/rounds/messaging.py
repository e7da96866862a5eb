"""Send messages to sites and collect their replies, with a time limit and a way to stop."""

import threading
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import httpx
from flwr.app import ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid

from fedbus.deployment.application import NOT_ALLOWED
from fedbus.errors import RunError
from fedbus.settings.schema import Settings
from fedbus.system.polling import pause_after
from fedbus.text import plain_text
from fedbus.training.federation import FederationRows, add_rows
from fedbus.transport.messages import CONFIG, METRICS, MODEL_MISSING, Registration
from server.flower_internals import ErrorCode
from server.rounds.delivery import wait_for_reply
from server.rounds.exchange import Exchange
from server.rounds.inbox import Inbox, ReplyLostError, open_inbox

POLL_SECONDS = 0.05

PAUSES_PER_POLL = 9
"""In a simulation, a poll of a thousand sites takes tens of milliseconds: polling must not take the time of their work.
A deployed poll is not followed by so long a pause, since it also reads models."""

DISCONNECTED = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's codes for a site that disconnected, or a message that was lost with it."""


@dataclass
class Participants:
    """The sites of a federation, by node.

    Attributes:
        registrations: The registration of each node.
        approved: The names that the hub's operator gave to nodes; empty in a simulation.
        failures: Why a connected site could not register, by site.
        exchange: Where the arrays of messages are; None in a simulation.
    """

    registrations: dict[int, Registration] = field(default_factory=dict)
    approved: Mapping[int, str] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    exchange: Exchange | None = None

    def name(self, node: int) -> str:
        """Return the name of a node's site, or its number while it has no name."""
        if node in self.approved:
            return self.approved[node]
        return self.registrations[node].site if node in self.registrations else f"node {node}"

    def registration(self, site: str) -> Registration:
        """Return the registration of a site."""
        return next(registration for registration in self.registrations.values() if registration.site == site)

    def nodes(self, sites: Sequence[str]) -> list[int]:
        """Return the nodes of sites, in the order given."""
        node_of = {registration.site: node for node, registration in self.registrations.items()}
        return [node_of[site] for site in sites]

    def federation(self, settings: Settings) -> FederationRows:
        """Return the sums over all sites that a site needs for balance and batches."""
        registrations = self.registrations.values()
        counts = [registration.splits["train"] for registration in registrations]
        return add_rows(counts, (sum(registration.balanced) for registration in registrations), settings.balance)

    @property
    def names(self) -> list[str]:
        """The names of all sites, sorted."""
        return sorted(registration.site for registration in self.registrations.values())

    @property
    def classes(self) -> tuple[int, ...]:
        """The classes that at least one site trains on, as positions in `CLASSES`."""
        return tuple(sorted(set().union(*(registration.classes for registration in self.registrations.values()))))


@dataclass
class Replies:
    """What came back within the time limit.

    Attributes:
        messages: The replies with content, by site. Sorted by name, so that sums do not depend on who replied first.
        failures: Why there is no content, by site.
        error_codes: Flower's codes of those failures that are errors, by site.
    """

    messages: dict[str, Message]
    failures: dict[str, str]
    error_codes: dict[str, int]

    @property
    def awaiting_approval(self) -> list[str]:
        """Sites whose operators have not approved the study."""
        return sorted(site for site, code in self.error_codes.items() if code == NOT_ALLOWED)

    @property
    def disconnected(self) -> list[str]:
        """Sites that disconnected before they replied; the same message can be sent to them again."""
        return sorted(site for site, code in self.error_codes.items() if code in DISCONNECTED)

    @property
    def without_model(self) -> list[str]:
        """Sites that no longer have the model of their last evaluation; it can be sent to them."""
        return sorted(site for site, code in self.error_codes.items() if code == MODEL_MISSING)

    def updated(self, retried: "Replies", sites: Collection[str]) -> "Replies":
        """Return these replies with those of sites to which a message was sent again in place of their failures."""
        lasting = {site: reason for site, reason in self.failures.items() if site not in sites}
        return Replies(
            dict(sorted((self.messages | retried.messages).items())),
            dict(sorted((lasting | retried.failures).items())),
            {site: code for site, code in self.error_codes.items() if site in lasting} | retried.error_codes,
        )


def send_and_receive(
    grid: Grid,
    messages: Iterable[Message],
    participants: Participants,
    timeout: float,
    stop: threading.Event,
    array_bytes: int = 0,
) -> Replies:
    """Send messages and wait for the replies until the time limit.

    Args:
        grid: Flower's grid.
        messages: The messages, at most one per site.
        participants: The sites.
        timeout: Time limit in seconds; a reply that is not complete by then is left.
        stop: Set it to end early.
        array_bytes: The most bytes of arrays in a reply, in a deployment.

    Raises:
        KeyboardInterrupt: If `stop` was set.
    """
    outgoing, exchange = list(messages), participants.exchange
    if exchange:
        exchange.open(array_bytes)
        exchange.detach(outgoing)
    pending = set(grid.push_messages(outgoing))
    # By message, not by sender: an error that Flower reports on a site's behalf has Flower's own node as its sender.
    node_of = {message.metadata.message_id: message.metadata.dst_node_id for message in outgoing}
    site_of = {message_id: participants.name(node) for message_id, node in node_of.items()}
    del outgoing  # frees the models in them
    inbox, replies = open_inbox(grid, exchange, array_bytes), Replies({}, {}, {})
    last = time.monotonic()
    deadline = last + timeout
    while pending:  # looks once, even if no time is left
        if stop.is_set():
            raise KeyboardInterrupt
        started = time.monotonic()
        inbox.look(pending)
        arrived = {
            message_id
            for message_id in sorted(pending)
            if _receive(inbox, message_id, node_of[message_id], site_of[message_id], replies)
        }
        pending -= arrived
        if not pending:
            break
        if arrived:
            last = time.monotonic()
        if participants.approved:  # every poll is a call to the SuperLink, and reads the models that have arrived
            time.sleep(pause_after(time.monotonic() - last))
        else:
            time.sleep(PAUSES_PER_POLL * (time.monotonic() - started))
            wait_for_reply(grid, POLL_SECONDS)
        if time.monotonic() >= deadline:
            break
    inbox.give_up(pending)
    for site in set(site_of.values()) - replies.messages.keys() - replies.failures.keys():
        replies.failures[site] = f"no reply within {timeout:.0f} s"
    return Replies(dict(sorted(replies.messages.items())), dict(sorted(replies.failures.items())), replies.error_codes)


def _receive(inbox: Inbox, message_id: str, node: int, site: str, replies: Replies) -> bool:
    """Add the reply to a message to the replies, or why it can't be used; return whether it has arrived."""
    try:
        reply = inbox.pull(message_id)
    except httpx.HTTPError:  # the hub does not respond, so no site is at fault
        raise
    except ReplyLostError:
        replies.failures[site] = "its reply was not uploaded completely"
        replies.error_codes[site] = ErrorCode.MESSAGE_UNAVAILABLE
    except RunError as error:
        replies.failures[site] = str(error)
    except Exception as error:  # Flower deserialises what a site sent; damaged bytes raise any exception
        replies.failures[site] = f"its reply can't be read ({type(error).__name__})"
    else:
        if reply is None:
            return False
        if reply.has_error():
            replies.failures[site] = f"failed: {plain_text(reply.error.reason)}"
            replies.error_codes[site] = reply.error.code
        elif _answers(reply, message_id, node):
            replies.messages[site] = reply
        else:
            replies.failures[site] = "its reply is to another message, or in the name of another site"
    return True


def _answers(reply: Message, message_id: str, node: int) -> bool:
    """Whether a reply is to a message and from its node, which Flower does not compare with the reply's content."""
    sender = reply.metadata.reply_to_message_id, reply.metadata.src_node_id
    return sender == (message_id, node) and isinstance(reply.content, RecordDict)


def read_config(message: Message) -> dict[str, Any]:
    """Return the config record of a message."""
    return dict(cast(ConfigRecord, read_record(message, CONFIG)))


def read_metrics(message: Message) -> dict[str, Any]:
    """Return the metric record of a message."""
    return dict(cast(MetricRecord, read_record(message, METRICS)))


def read_record(message: Message, name: str) -> object:
    """Return one record of a message.

    Raises:
        RunError: If the message has no record of that name.
    """
    if name not in message.content:
        raise RunError(f"A site's message has no record {name!r}.", "Run the same version of FedBUS everywhere.")
    return message.content[name]
