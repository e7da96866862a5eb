"""Replies of a hostile site, through Flower's own SuperLink: bounded before they are fetched, and from their sender."""

import json
import threading

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MessageType, MetricRecord, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.inflatable.inflatable_object import (
    add_header_to_object_body,
    get_all_nested_objects,
    get_object_tree,
)

from fedbus.errors import RunError
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS
from fedbus.transport.weights import WeightCodec
from server.rounds.flower_messages import read_update
from server.rounds.inbox import MOST_BYTES, open_inbox
from server.rounds.messaging import Participants, send_and_receive
from tests.superlink_state import StateGrid, announce, upload

LAYOUT = {"a": (500,), "b": (3, 4)}


@pytest.fixture
def grid() -> StateGrid:
    return StateGrid(2)


def instruction(grid: StateGrid, site: int = 0, number: int = 1) -> Message:
    return Message(RecordDict({CONFIG: ConfigRecord({"round": number})}), grid.nodes[site], MessageType.TRAIN, ttl=600)


def push(grid: StateGrid, site: int = 0, number: int = 1) -> Message:
    message = instruction(grid, site, number)
    grid.push_messages([message])
    return message


def answer(message: Message, values: int = 4, **numbers: float) -> Message:
    arrays = ArrayRecord({"flat": Array(np.arange(values, dtype=np.float32))})
    return Message(RecordDict({ARRAYS: arrays, METRICS: MetricRecord({"n": 1.0} | numbers)}), reply_to=message)


def deliver(grid: StateGrid, site: int, reply: Message, **options) -> None:
    session, contents = announce(grid, grid.nodes[site], reply, **options)
    upload(grid, grid.nodes[site], session, contents)


def test_a_reply_with_a_model_arrives_whole(grid):
    message = push(grid)
    deliver(grid, 0, answer(message, 512))
    inbox = open_inbox(grid)
    inbox.look([message.metadata.message_id])
    reply = inbox.pull(message.metadata.message_id)
    found = read_update(reply, WeightCodec("flat", LAYOUT), {})
    assert found["a"].tolist() == list(range(500))
    assert found["b"].ravel().tolist() == list(range(500, 512))


def test_withheld_objects_hold_nobody_else_and_are_fetched_when_they_come(grid):
    messages = [push(grid, site) for site in range(2)]
    session, contents = announce(grid, grid.nodes[0], answer(messages[0], 5, m=2.0))
    deliver(grid, 1, answer(messages[1]))
    inbox = open_inbox(grid)
    inbox.look([message.metadata.message_id for message in messages])
    for _ in range(3):
        before = grid.handlers.calls.count("pull_object")
        assert inbox.pull(messages[0].metadata.message_id) is None
        assert grid.handlers.calls.count("pull_object") <= before + 2, "it does not wait"
    assert inbox.pull(messages[1].metadata.message_id) is not None
    upload(grid, grid.nodes[0], session, contents)
    assert inbox.pull(messages[0].metadata.message_id) is not None


def receive(grid: StateGrid, messages: list[Message], timeout: float = 0.5):
    participants = Participants(approved=dict(zip(grid.nodes, ("north", "south"), strict=True)))
    return send_and_receive(grid, messages, participants, timeout, threading.Event())


class AnswersWhenPushed(StateGrid):
    """Sites that answer as soon as a message is pushed to them: `site 0` by `first`, `site 1` honestly."""

    def __init__(self, first) -> None:
        super().__init__(2)
        self.first = first

    def push_messages(self, messages):
        messages = list(messages)
        identifiers = super().push_messages(messages)
        for message in messages:
            site = self.nodes.index(message.metadata.dst_node_id)
            self.first(self, message) if site == 0 else deliver(self, 1, answer(message))
        return identifiers


def test_a_round_ends_at_its_time_limit_although_a_site_withholds_what_it_announced():
    grid = AnswersWhenPushed(lambda grid, message: announce(grid, grid.nodes[0], answer(message)))
    replies = receive(grid, [instruction(grid, site) for site in range(2)])
    assert list(replies.messages) == ["south"]
    assert "no reply within" in replies.failures["north"]


def test_a_site_that_withholds_one_object_can_not_fill_the_hub_with_others():
    """What it uploads beside it is counted, and all of it is deleted once it is too much."""

    def withholds_one(grid: StateGrid, message: Message) -> None:
        arrays = ArrayRecord({f"{i}": Array(np.full(100_000, i, np.float32)) for i in range(10)})
        session, contents = announce(grid, grid.nodes[0], Message(RecordDict({ARRAYS: arrays}), reply_to=message))
        del contents[next(name for name, content in contents.items() if b"ArrayChunk" in content[:20])]
        upload(grid, grid.nodes[0], session, contents)

    grid = AnswersWhenPushed(withholds_one)
    replies = receive(grid, [instruction(grid)], timeout=60)
    assert "more than 1048576 bytes" in replies.failures["north"]
    assert len(grid.state.object_store) == objects_of(instruction(grid)), "those of the instruction"


def objects_of(message: Message) -> int:
    return len(get_all_nested_objects(message))


def test_what_nobody_waits_for_any_more_is_deleted_at_the_hub():
    """An instruction that its site did not fetch, and a reply that was not uploaded in time."""

    def stops_halfway(grid: StateGrid, message: Message) -> None:
        session, contents = announce(grid, grid.nodes[0], answer(message))
        upload(grid, grid.nodes[0], session, dict([contents.popitem()]))

    grid = AnswersWhenPushed(stops_halfway)
    assert list(receive(grid, [instruction(grid)]).failures) == ["north"]
    assert len(grid.state.object_store) == 0


def many_objects(reply: Message, count: int = 3000) -> ObjectTree:
    tree = get_object_tree(reply)
    for number in range(count):
        tree.children.add().object_id = f"{number:064x}"
    return tree


def test_too_many_objects_are_refused_before_any_is_fetched():
    def announces_many(grid: StateGrid, message: Message) -> None:
        reply = answer(message)
        announce(grid, grid.nodes[0], reply, many_objects(reply))

    grid = AnswersWhenPushed(announces_many)
    replies = receive(grid, [instruction(grid)])
    assert "more than 64 objects" in replies.failures["north"]
    assert "pull_object" not in grid.handlers.calls
    assert grid.handlers.calls[-1] == "confirm_message_received", "it is deleted at the hub"


def test_too_many_bytes_are_refused_with_one_object_beyond_the_limit():
    grid = AnswersWhenPushed(lambda grid, message: deliver(grid, 0, answer(message, 8_000_000)))
    replies = receive(grid, [instruction(grid)], timeout=60)
    assert f"more than {MOST_BYTES} bytes" in replies.failures["north"]
    assert grid.handlers.calls.count("pull_object") < 8, "32 MB are seven objects, and five that describe them"


class Repeating(Array):
    """An array that lists its one part a thousand times."""

    def deflate(self) -> bytes:
        described = {"dtype": self.dtype, "shape": self.shape, "stype": self.stype, "arraychunk_ids": [0] * 1000}
        return add_header_to_object_body(json.dumps(described).encode(), self)


Repeating.__qualname__ = "Array"  # the type that its object states


def repeats(grid: StateGrid, message: Message) -> None:
    arrays = ArrayRecord()
    arrays["flat"] = Repeating(np.zeros(100_000, dtype=np.float32))
    deliver(grid, 0, Message(RecordDict({ARRAYS: arrays}), reply_to=message))


class Record(Message):
    """A reply whose only object is a record."""

    def deflate(self) -> bytes:
        return RecordDict({METRICS: MetricRecord({"n": 1.0})}).deflate()

    @property
    def children(self) -> dict:
        return RecordDict({METRICS: MetricRecord({"n": 1.0})}).children


def sends_a_record(grid: StateGrid, message: Message) -> None:
    deliver(grid, 0, Record(RecordDict(), reply_to=message))


def forges(**metadata: object):
    """A reply whose content names another sender or message than its header, which is all that Flower checks."""

    def forge(grid: StateGrid, message: Message) -> None:
        reply = answer(message)
        for key, value in metadata.items():
            reply.metadata.__dict__[f"_{key}"] = grid.nodes[1] if value == "south" else value
        deliver(grid, 0, reply, instruction=message)

    return forge


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (repeats, "arrays of more than"),
        (sends_a_record, "is no message"),
        (forges(src_node_id="south"), "in the name of another site"),
        (forges(reply_to_message_id="0" * 64), "to another message"),
    ],
    ids=["one part many times", "no message", "another sender", "another message"],
)
def test_a_reply_that_is_not_what_it_claims_is_refused_by_name(first, words):
    grid = AnswersWhenPushed(first)
    replies = receive(grid, [instruction(grid, site) for site in range(2)], timeout=60)
    assert words in replies.failures["north"]
    assert list(replies.messages) == ["south"]


def test_of_two_replies_the_first_counts():
    def twice(grid: StateGrid, message: Message) -> None:
        for number in (1.0, 2.0):
            deliver(grid, 0, answer(message, n=number))

    grid = AnswersWhenPushed(twice)
    replies = receive(grid, [instruction(grid)], timeout=60)
    assert replies.messages["north"].content[METRICS]["n"] == 1.0


def test_a_reply_to_an_earlier_round_is_not_one_to_this_round():
    earlier = []

    def one_round_late(grid: StateGrid, message: Message) -> None:
        if earlier:
            deliver(grid, 0, answer(earlier[0]))
        earlier.append(message)

    grid = AnswersWhenPushed(one_round_late)
    assert "no reply" in receive(grid, [instruction(grid)]).failures["north"]
    replies = receive(grid, [instruction(grid, number=2)])
    assert (replies.messages, "no reply" in replies.failures["north"]) == ({}, True)


def test_a_site_can_not_answer_for_another(grid):
    message = push(grid, 1)
    reply = answer(message)
    reply.metadata.__dict__["_src_node_id"] = grid.nodes[0]  # the gateway lets it send nothing in another's name
    deliver(grid, 0, reply)
    assert open_inbox(grid).pull(message.metadata.message_id) is None


def test_an_error_of_a_site_is_named_and_an_upload_that_was_lost_can_be_repeated():
    grid = AnswersWhenPushed(
        lambda grid, message: deliver(grid, 0, Message(Error(7, "full\n\x1b[2Jdisk"), reply_to=message))
    )
    replies = receive(grid, [instruction(grid)], timeout=60)
    assert (replies.failures, replies.error_codes) == ({"north": "failed: full disk"}, {"north": 7})

    def loses(grid: StateGrid, message: Message) -> None:
        announce(grid, grid.nodes[0], answer(message))
        grid.state.object_store.clear()

    grid = AnswersWhenPushed(loses)
    replies = receive(grid, [instruction(grid)], timeout=60)
    assert replies.disconnected == ["north"]


def test_a_header_that_states_a_terabyte_is_refused_before_it_is_decoded(grid):
    message = push(grid)
    array = Array(np.zeros(1, np.float32))
    stated = b"'shape': (1000000000000,), }"
    array.data = array.data.replace(b"'shape': (1,), }".ljust(len(stated)), stated)
    assert stated in array.data
    reply = Message(RecordDict({ARRAYS: ArrayRecord({"flat": array})}), reply_to=message)
    with pytest.raises(RunError, match="size is not what its header says"):
        read_update(reply, WeightCodec("flat", {"a": (1,)}), {})
