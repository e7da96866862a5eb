"""Hand each simulated site its message without a search through the messages of all sites.

Ten times a second, Flower's simulation asks its in-memory state for the next message of every node, and for each node
the state looks through all stored messages: with n sites, n^2 looks, which hold up everything else in the process.
"""

from collections import defaultdict, deque
from datetime import UTC, datetime
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from server.flower_internals import InMemoryGrid


def index_by_node(grid: Grid) -> None:
    """Have a simulation's state find the messages of a node by an index; any other grid is left unchanged.

    Call it before a message is pushed.
    """
    if not isinstance(grid, InMemoryGrid):
        return
    state: Any = grid.state  # an InMemoryLinkState, whose methods are replaced
    waiting = defaultdict[int, deque[str]](deque)
    store = state.store_message_ins

    def store_message_ins(message: Message) -> str | None:
        identifier: str | None = store(message)
        if identifier is not None:
            waiting[message.metadata.dst_node_id].append(identifier)
        return identifier

    def get_message_ins(node_id: int, limit: int | None, *, run_id: int | None = None) -> list[Message]:
        """Do what Flower's function does; `run_id` needs no look, because a simulation has one run."""
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

    state.store_message_ins = store_message_ins
    state.get_message_ins = get_message_ins
