"""The SuperLink's state as a hub starts it: the approved sites under their numbers, and a signal per instruction."""

import os
from collections.abc import Iterator
from contextlib import suppress

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.error import FlowerError
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers

from server.hub.folder import HubFolder, init_hub
from server.hub.instructions import Pipe
from server.hub.link_state import NODE_BYTES, HubLinkState
from server.hub.superlink_process import registered_keys
from server.rounds.inbox import open_inbox
from tests.approved_sites import approved_site, new_public_key
from tests.superlink_state import StateGrid, announce, upload


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe() as found:
        yield found


@pytest.fixture
def hub(tmp_path) -> HubFolder:
    made = init_hub(tmp_path / "hub", "hub.example.org")
    for name, node in (("north", 7), ("south", 2**64 - 1)):
        made.add_site(approved_site(name, node))
    return made


def start(hub: HubFolder, pipe: Pipe) -> HubLinkState:
    """What the process of the SuperLink does at its start."""
    keys = registered_keys(hub.path)
    return HubLinkState(NoOpFederationManager(), ObjectStoreFactory().store(), keys, pipe.write_end)


def activate(state: HubLinkState, key: bytes) -> int:
    request = ActivateNodeRequest(public_key=key, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL)
    return fleet_handlers.activate_node(request, state).node_id


def key_of(hub: HubFolder, name: str) -> bytes:
    return public_key_to_bytes(load_ssh_public_key(hub.site(name).public_key.encode()))


def test_every_start_registers_the_approved_keys_under_the_same_numbers(hub, pipe):
    for _ in range(2):
        state = start(hub, pipe)
        assert {node.node_id: (node.name, node.status) for node in state.get_node_info()} == {
            7: ("north", "offline"), 2**64 - 1: ("south", "offline"),
        }  # fmt: skip
        for name, site in hub.sites().items():
            assert activate(state, key_of(hub, name)) == site.node


def test_a_node_that_was_connected_before_the_hub_was_restarted_continues(hub, pipe):
    """It sends its next heartbeat and asks for instructions, and need not connect again."""
    assert start(hub, pipe).acknowledge_node_heartbeat(7, HEARTBEAT_DEFAULT_INTERVAL)


def test_a_key_that_was_never_approved_or_is_revoked_is_not_registered(hub, pipe):
    revoked = key_of(hub, "north")
    hub.remove_site("north")
    state = start(hub, pipe)
    for key in (revoked, public_key_to_bytes(new_public_key())):
        with pytest.raises(FlowerError):
            activate(state, key)
    assert activate(state, key_of(hub, "south")) == 2**64 - 1


def test_a_site_that_has_never_connected_can_be_unregistered_and_another_registered(hub, pipe):
    state = start(hub, pipe)
    owner = state.get_node_info(node_ids=[7])[0].owner_aid
    state.delete_node(owner, 7)
    assert state.get_node_id_by_public_key(key_of(hub, "north")) is None
    key = public_key_to_bytes(new_public_key())
    node = state.create_node(owner, owner, key, 30)
    assert activate(state, key) == node


class HubGrid(StateGrid):
    """A run beside the hub's state."""

    def __init__(self, pipe: Pipe) -> None:
        self.write_end = pipe.write_end
        super().__init__(2)

    def make_state(self) -> HubLinkState:
        return HubLinkState(NoOpFederationManager(), ObjectStoreFactory().store(), (), self.write_end)


def test_the_gateway_is_told_of_an_instruction_once_all_of_it_has_arrived(pipe):
    grid = HubGrid(pipe)
    told = []

    def before(request):
        told.append(read(pipe))
        return PushObject(request)

    PushObject, grid.handlers.PushObject = grid.handlers.PushObject, before  # noqa: N806
    content = RecordDict({"config": ConfigRecord({"round": 1})})
    grid.push_messages([Message(content, node, MessageType.TRAIN, ttl=600) for node in grid.nodes])
    assert len(told) > 2
    assert told == [[]] * len(told), "no node was told before the last object"
    assert sorted(read(pipe)) == sorted(grid.nodes)


def test_two_threads_may_see_the_end_of_an_upload(pipe, monkeypatch):
    """The second one, when the first has just woken its sites."""

    class Late(dict):
        def __contains__(self, session):
            return True

    grid = HubGrid(pipe)
    monkeypatch.setattr(grid.state, "incomplete", Late())
    assert not grid.state.store_object(grid.run_number, "ended", "0" * 64, b"")
    assert read(pipe) == []


def small_tree_of_a_large_one(depth: int) -> ObjectTree:
    """Each object has the one below it twice, and names the children of that only once."""
    tree = ObjectTree(object_id="0" * 64)
    for level in range(1, depth):
        again = ObjectTree(object_id=f"{level - 1:064x}")
        tree = ObjectTree(object_id=f"{level:064x}", children=[tree, again])
    return tree


def test_a_reply_whose_objects_are_not_named_with_their_children_each_time_is_refused(pipe):
    """Built again, its tree would have 2^60 objects."""
    grid = HubGrid(pipe)
    content = RecordDict({"config": ConfigRecord({"round": 1})})
    sent = Message(content, grid.nodes[0], MessageType.TRAIN, ttl=600)
    (identifier,) = grid.push_messages([sent])
    before = dict(grid.state.objects)
    sent.metadata.__dict__["_message_id"] = identifier
    announce(grid, grid.nodes[0], Message(content, reply_to=sent), small_tree_of_a_large_one(60))
    assert grid.state.objects == before
    assert not grid.state.message_res_store
    reply = Message(content, reply_to=sent)
    session, contents = announce(grid, grid.nodes[0], reply)
    upload(grid, grid.nodes[0], session, contents)
    assert list(grid.state.message_res_store) == [reply.object_id]


@pytest.mark.parametrize("away", [False, True])
def test_the_model_of_an_instruction_that_its_site_never_confirms_does_not_stay(pipe, away):
    """Neither that of a site that answers without it, nor that of one that is away."""
    grid = HubGrid(pipe)
    content = RecordDict({"arrays": ArrayRecord({"w": Array(np.ones(1000, np.float32))})})
    sent = Message(content, grid.nodes[0], MessageType.TRAIN, ttl=600)
    (identifier,) = grid.push_messages([sent])
    sent.metadata.__dict__["_message_id"] = identifier
    if away:
        grid.state.delete_node("a", grid.nodes[0])
    else:
        announce(grid, grid.nodes[0], Message(RecordDict(), reply_to=sent))
    inbox = open_inbox(grid)
    inbox.look([identifier])
    assert identifier not in grid.state.objects
    assert max(len(entry.content) for entry in grid.state.objects.values()) < 1000


def read(pipe: Pipe) -> list[int]:
    try:
        found = os.read(pipe.read_end, 1 << 16)
    except BlockingIOError:
        return []
    return [int.from_bytes(found[start : start + NODE_BYTES], "big") for start in range(0, len(found), NODE_BYTES)]


def test_a_full_pipe_stops_no_upload(pipe):
    with suppress(BlockingIOError):
        while True:
            os.write(pipe.write_end, bytes(4096))
    grid = HubGrid(pipe)
    message = Message(RecordDict({"config": ConfigRecord({"round": 1})}), grid.nodes[0], MessageType.TRAIN, ttl=600)
    assert grid.push_messages([message])
