"""Deliver a simulation's messages when they are sent, without a search through the messages of all sites.

Flower's simulation asks its in-memory state ten times a second for the next message of every node, and for each node
the state looks through all stored messages: with n sites, n^2 looks, which delay everything else in the process. Here
messages are found by node, the first question of each turn waits until messages have been sent, and a reply wakes the
thread that waits for it.
"""

import time
from collections import defaultdict, deque
from collections.abc import Iterable
from datetime import UTC, datetime
from threading import Event
from typing import Any
from weakref import WeakKeyDictionary

from flwr.app import Message
from flwr.serverapp import Grid

from server.flower_internals import InMemoryGrid

STOP_SECONDS = 1.0
"""Flower's threads look this often whether the simulation has ended."""

_replied: WeakKeyDictionary[Grid, Event] = WeakKeyDictionary()
"""Set when a reply has arrived, by the grid of a simulation."""


def deliver_at_once(grid: Grid) -> None:
    """Replace the methods of a simulation's grid and state that find messages; any other grid is left unchanged.

    Call it before a message is pushed.
    """
    if not isinstance(grid, InMemoryGrid):
        return
    simulation: Any = grid  # whose methods are replaced
    state: Any = grid.state  # an InMemoryLinkState, likewise
    waiting = defaultdict[int, deque[str]](deque)
    pushed, replied = Event(), _replied.setdefault(grid, Event())
    push, store, store_reply = simulation.push_messages, state.store_message_ins, state.store_message_res

    def push_messages(messages: Iterable[Message]) -> Iterable[str]:
        identifiers: Iterable[str] = push(messages)
        pushed.set()  # once all are stored, so that one turn finds the messages of all sites
        return identifiers

    def store_message_ins(message: Message) -> str | None:
        identifier: str | None = store(message)
        if identifier is not None:
            waiting[message.metadata.dst_node_id].append(identifier)
        return identifier

    def get_message_ins(node_id: int, limit: int | None, *, run_id: int | None = None) -> list[Message]:
        """Do what Flower's function does; `run_id` needs no look, because a simulation has one run."""
        if node_id == next(iter(state.nodes)):  # Flower asks for one node after the other
            pushed.wait(STOP_SECONDS)
            pushed.clear()
        found: list[Message] = []
        identifiers = waiting[node_id]
        while identifiers and (limit is None or len(found) < limit):
            identifier = identifiers.popleft()
            state._check_stored_messages({identifier})  # deletes it if it has expired
            message = state.message_ins_store.get(identifier)
            if message is not None:
                message.metadata.delivered_at = datetime.now(UTC).isoformat()
                found.append(message)
        return found

    def store_message_res(message: Message) -> str | None:
        identifier: str | None = store_reply(message)
        replied.set()
        return identifier

    simulation.push_messages = push_messages
    state.store_message_ins = store_message_ins
    state.get_message_ins = get_message_ins
    state.store_message_res = store_message_res


def wait_for_reply(grid: Grid, seconds: float) -> None:
    """Wait until a reply may have arrived.

    Args:
        grid: A grid. That of a simulation tells of a reply, and is waited for until then or `STOP_SECONDS`.
        seconds: How long to wait for any other grid.
    """
    replied = _replied.get(grid)
    if replied is None:
        time.sleep(seconds)
    else:
        replied.wait(STOP_SECONDS)
        replied.clear()
