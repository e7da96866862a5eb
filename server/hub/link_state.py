"""The SuperLink's state as a hub keeps it: in memory, with the approved sites, and a signal for each new instruction.

A resumed run starts from its run folder, never from this state, so nothing of it needs to be on disk. On disk, each
message was written twice, and models in transit stayed in the database's free pages.
"""

import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flwr.app import Message

from server.flower_internals import OWNER, OWNER_NAME, InMemoryLinkState, ObjectTree
from server.hub.object_trees import is_complete

NODE_BYTES = 8
"""A node's number as it is written to the gateway."""

OFFLINE = "offline"


@dataclass(frozen=True)
class RegisteredKey:
    """The key of an approved site.

    Attributes:
        node: The number by which Flower knows it, the same at every start of the hub.
        name: The site's name.
        public_key: The key as Flower stores it, in PEM.
    """

    node: int
    name: str
    public_key: bytes


class HubLinkState(InMemoryLinkState):
    """Flower's state in memory, in which the approved sites are registered before the first call is answered.

    Args:
        federation_manager: As Flower passes it, like the next.
        object_store: Where messages are kept.
        keys: The keys of the approved sites.
        gateway: File descriptor to which the number of a node is written when an instruction for it is complete.
    """

    def __init__(self, federation_manager: Any, object_store: Any, keys: Iterable[RegisteredKey], gateway: int) -> None:
        super().__init__(federation_manager, object_store)
        self.gateway, self.objects = gateway, object_store.store
        self.incomplete: defaultdict[str, set[int]] = defaultdict(set)
        """The nodes of instructions whose objects are being uploaded, by upload session."""
        for key in keys:
            self._register(key)

    def _register(self, key: RegisteredKey) -> None:
        """Register a key under its number: Flower itself would choose another one at each start.

        A SuperNode that was connected before the hub was restarted continues, since its number is still right.
        """
        chosen = self.create_node(OWNER, OWNER_NAME, key.public_key, 0, name=key.name)
        node = self.nodes.pop(chosen)
        node.node_id, node.status = key.node, OFFLINE
        self.nodes[key.node] = node
        self.node_public_key_to_node_id[key.public_key] = key.node
        self.owner_to_node_ids[OWNER] ^= {chosen, key.node}

    def store_message_and_object_tree(
        self, message: Message, object_tree: ObjectTree, session_id: str
    ) -> tuple[bool, list[str]]:
        """Store a message, and remember whom to wake once all its objects have arrived."""
        with self.lock:  # Flower's own: no other tree is stored in between
            if not is_complete(object_tree, self._stored_children):
                return False, []
            stored, missing = super().store_message_and_object_tree(message, object_tree, session_id)
        if stored and not message.metadata.reply_to_message_id:
            self.incomplete[session_id].add(message.metadata.dst_node_id)
        return stored, missing

    def delete_messages(self, message_ins_ids: set[str]) -> None:
        """Delete instructions with their objects: a site that has answered, or is away, may never confirm them."""
        super().delete_messages(message_ins_ids)
        for identifier in message_ins_ids:
            self.object_store.delete(identifier)

    def _stored_children(self, identifier: str) -> Sequence[str] | None:
        entry = self.objects.get(identifier)
        return None if entry is None else entry.child_object_ids

    def store_object(self, run_id: int, session_id: str, object_id: str, object_content: bytes) -> bool:
        """Store an object; with the last one of an upload, its nodes are woken."""
        stored = super().store_object(run_id, session_id, object_id, object_content)
        if session_id in self.incomplete and session_id not in self._object_push_sessions:
            # Objects arrive in several threads: another one may have seen the upload's end at the same time.
            for node in self.incomplete.pop(session_id, ()):
                self._wake(node)
        return stored

    def _wake(self, node: int) -> None:
        with suppress(OSError):  # the pipe is full, or the gateway has ended; a SuperNode asks again in any case
            os.write(self.gateway, node.to_bytes(NODE_BYTES, "big"))
