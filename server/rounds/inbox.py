"""Fetch replies from the hub's SuperLink, within limits on objects, bytes and time that the hub sets.

A site announces a reply as a tree of objects, and uploads them one by one. Flower's own grid waits up to two hours for
objects that a site announced, counts neither objects nor bytes, and believes what the content says about its sender.
Here an announcement is checked before anything is fetched, each poll fetches what is there without waiting, and a reply
is only accepted from the node that the message went to.
"""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Protocol

from flwr.app import Array, Message
from flwr.serverapp import Grid

from fedbus.errors import RunError
from fedbus.transport.messages import ARRAYS
from server.flower_internals import (
    Confirmation,
    HttpGrid,
    ObjectRequest,
    ObjectTree,
    ReplyRequest,
    body_of_type,
    children_of,
    inflate,
    object_type,
    run_number,
    runtime_client,
)
from server.rounds.exchange import Exchange

MOST_OBJECTS, MOST_BYTES = 64, 1 << 20
"""The largest reply, in Flower's objects and their bytes; a model is not in it: see `server.rounds.exchange`."""


class Inbox(Protocol):
    """Where replies arrive."""

    def look(self, message_ids: Collection[str]) -> None:
        """Look which of these messages have a reply, before each is pulled."""

    def pull(self, message_id: str) -> Message | None:
        """Return the reply to a message; None if it has not arrived."""

    def give_up(self, message_ids: Collection[str]) -> None:
        """Delete what the hub still has of these messages and of their replies: nobody waits for them any more."""


def open_inbox(grid: Grid, exchange: Exchange | None = None, array_bytes: int = 0) -> Inbox:
    """Return the inbox of a grid: with limits in a deployment; a simulation's sites share its memory.

    Args:
        grid: Flower's grid.
        exchange: Where the arrays of replies are; None in a simulation.
        array_bytes: The most bytes that those of one reply may have.
    """
    return _RemoteInbox(grid, exchange, array_bytes) if isinstance(grid, HttpGrid) else _LocalInbox(grid)


@dataclass
class _LocalInbox:
    grid: Grid

    def look(self, message_ids: Collection[str]) -> None:
        pass

    def give_up(self, message_ids: Collection[str]) -> None:
        pass

    def pull(self, message_id: str) -> Message | None:
        return next(iter(self.grid.pull_messages([message_id])), None)


@dataclass
class _Announced:
    """A reply that a site has announced, as far as it has arrived.

    Attributes:
        identifier: Of the reply.
        missing: Its objects that are still to be fetched, in the order in which a SuperNode uploads them.
        contents: Those that were fetched.
        size: Their bytes.
        probe: Which of the missing objects to ask for out of turn.
    """

    identifier: str
    missing: list[str]
    contents: dict[str, bytes] = field(default_factory=dict)
    size: int = 0
    probe: int = 0


@dataclass
class _RemoteInbox:
    grid: HttpGrid
    exchange: Exchange | None
    array_bytes: int
    announced: dict[str, _Announced] = field(default_factory=dict)
    too_large: dict[str, RunError] = field(default_factory=dict)

    def look(self, message_ids: Collection[str]) -> None:
        """Ask once for all announcements, and check their numbers of objects."""
        unknown = sorted(set(message_ids) - self.announced.keys() - self.too_large.keys())
        if not unknown:
            return
        answer = runtime_client(self.grid).PullMessages(ReplyRequest(message_ids=unknown))
        for header, tree in zip(answer.messages_list, answer.message_object_trees, strict=True):
            message_id = header.metadata.reply_to_message_id
            if message_id not in unknown:
                continue
            identifiers = list(islice(_identifiers(tree), MOST_OBJECTS + 1))
            if len(identifiers) > MOST_OBJECTS:
                self._delete(tree.object_id)
                self.too_large[message_id] = _too_large(f"more than {MOST_OBJECTS} objects")
            else:  # children first
                self.announced[message_id] = _Announced(tree.object_id, identifiers[::-1])

    def pull(self, message_id: str) -> Message | None:
        """Return the reply to a message if all of it has arrived.

        Raises:
            RunError: If the reply exceeds the limits, or is no message.
            ReplyLostError: If the site did not complete its upload in time.
        """
        if message_id in self.too_large:
            raise self.too_large.pop(message_id)
        if message_id not in self.announced:
            return None
        reply = self.announced[message_id]
        try:
            if not self._fetch(reply):
                return None
            _check_arrays(reply.contents, MOST_BYTES)
        except Exception:
            self._delete(reply.identifier)
            raise
        self._delete(reply.identifier)
        message = inflate(reply.identifier, reply.contents)
        if not isinstance(message, Message):
            raise RunError("The reply is no message.", "Install the same version of FedBUS there.")
        message.metadata.__dict__["_message_id"] = reply.identifier
        if self.exchange:
            self.exchange.attach(message, ARRAYS, self.array_bytes)
        return message

    def give_up(self, message_ids: Collection[str]) -> None:
        """Delete these messages and what has arrived of their replies, which would fill the SuperLink's memory."""
        for message_id in sorted(message_ids):
            if message_id in self.announced:
                self._delete(self.announced[message_id].identifier)
            self._delete(message_id)

    def _delete(self, identifier: str) -> None:
        """Delete a message with its objects at the SuperLink, whatever has arrived of it."""
        runtime_client(self.grid).ConfirmMessageReceived(
            Confirmation(node=self.grid.node, run_id=run_number(self.grid), message_object_id=identifier)
        )

    def _fetch(self, reply: _Announced) -> bool:
        """Fetch the objects that have arrived; return whether all have."""
        while reply.missing:
            if not self._fetch_object(reply, 0):
                # A site that withholds one object and uploads ever more others would fill the SuperLink's memory, if
                # none of them were counted: so another one is asked for at each poll.
                reply.probe = (reply.probe + 1) % len(reply.missing)
                if reply.probe:
                    self._fetch_object(reply, reply.probe)
                return False
        return True

    def _fetch_object(self, reply: _Announced, position: int) -> bool:
        """Fetch one of the missing objects if it has arrived."""
        request = ObjectRequest(node=self.grid.node, run_id=run_number(self.grid), object_id=reply.missing[position])
        answer = runtime_client(self.grid).PullObject(request)
        if not answer.object_found:
            raise ReplyLostError
        if not answer.object_available:
            return False
        reply.size += len(answer.object_content)
        if reply.size > MOST_BYTES:
            raise _too_large(f"more than {MOST_BYTES} bytes")
        reply.contents[reply.missing.pop(position)] = answer.object_content
        return True


class ReplyLostError(Exception):
    """A site announced a reply and did not complete its upload; the message can be sent again."""


def _identifiers(tree: ObjectTree) -> Iterator[str]:
    """Yield the identifiers of all objects of a tree once, without recursion."""
    waiting, seen = [tree], set[str]()
    while waiting:
        node = waiting.pop()
        waiting.extend(node.children)
        if node.object_id not in seen:
            seen.add(node.object_id)
            yield node.object_id


def _check_arrays(contents: dict[str, bytes], most: int) -> None:
    """Check the bytes of all arrays together: an array lists its parts by number, and can list one a million times.

    Raises:
        RunError: If they are more than `most`.
        ValueError, KeyError, IndexError, TypeError: If an object is damaged.
    """
    total = 0
    for content in contents.values():
        if object_type(content) == "Array":
            parts = [len(contents[part]) for part in children_of(content)]
            for part in json.loads(body_of_type(content, Array))["arraychunk_ids"]:
                total += parts[part]
                if total > most:
                    raise _too_large(f"arrays of more than {most} bytes")


def _too_large(what: str) -> RunError:
    return RunError(f"The reply has {what}.", "Install the same version of FedBUS there.")
