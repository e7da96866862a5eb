"""Strategies read one array per parameter, however models are packed in messages."""

import numpy as np
import pytest
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedbus.errors import RunError
from fedbus.evaluation.validation import Score
from fedbus.models.state import State
from fedbus.transport.messages import Instruction, Registration
from fedbus.transport.packing import layout_of
from fedbus.transport.report import Report
from fedbus.transport.weights import WeightCodec
from server.rounds.flower_messages import (
    MAX_STRATEGY_LOSS,
    evaluation_messages,
    from_array_record,
    read_update,
    strategy_reply,
    to_array_record,
    training_messages,
)
from server.rounds.messaging import Participants
from tests.tiny import tiny_settings

PAYLOADS = ("dict", "flat", "flat-fp16")


@pytest.fixture(autouse=True)
def _sender():
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def state(seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"fc.weight": (3, 4), "bn.running_var": (4,), "a.scalar": ()}
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def participants() -> Participants:
    splits = dict.fromkeys(("train", "validation", "test"), (1, 1, 1))
    names = {7: "south", 8: "east", 9: "north"}
    return Participants(
        {node: Registration(name, ("a",), 32, splits, (1, 1, 1), 3, 3, 0) for node, name in names.items()}
    )


def codec(payload: str) -> WeightCodec:
    return WeightCodec(payload, layout_of(state()))


def planned(*nodes: int) -> list[Message]:
    """Messages that a strategy planned, each with its own config."""
    arrays = to_array_record(state(seed=9))
    return [
        Message(
            RecordDict({"arrays": arrays, "config": ConfigRecord({"server-round": 3, "node": node})}),
            node, MessageType.TRAIN, group_id="3",
        )
        for node in nodes
    ]  # fmt: skip


def reply(arrays: dict[str, np.ndarray]) -> Message:
    question = Message(RecordDict(), 7, MessageType.TRAIN)
    question.metadata.__dict__["_message_id"] = "question"
    return Message(RecordDict({"arrays": ArrayRecord({k: Array(v) for k, v in arrays.items()})}), reply_to=question)


def arrays_of(message: Message) -> dict[str, np.ndarray]:
    return {key: array.numpy() for key, array in message.content["arrays"].items()}


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_strategies_read_arrays_sorted_by_name():
    record = to_array_record(state())
    assert list(record) == sorted(state())
    assert same(from_array_record(record), state())
    changed = ArrayRecord(
        {key: Array(np.asarray(array.numpy().astype(np.float64) * 2)) for key, array in record.items()}
    )
    assert same(from_array_record(changed), {key: value * 2 for key, value in state().items()})


def test_a_strategy_can_change_an_update_only_if_it_has_a_copy():
    update = state()
    for array in to_array_record(update).values():
        with pytest.raises(ValueError, match="read-only"):
            array.numpy()[...] = 0
    for array in to_array_record(update, copied=True).values():
        array.numpy()[...] = 0
    assert same(update, state())


def test_messages_are_sorted_by_site_and_leave_out_excluded_and_unregistered_ones():
    sent = training_messages(planned(7, 5, 9, 8), state(), participants(), codec("dict"), 30)
    assert [message.metadata.dst_node_id for message in sent] == [8, 9, 7]
    without_north = training_messages(planned(7, 9, 8), state(), participants(), codec("dict"), 30, ("north",))
    assert [message.metadata.dst_node_id for message in without_north] == [8, 7]
    assert training_messages(planned(7), state(), participants(), codec("dict"), 30, ["south"]) == []


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_message_contains_the_strategys_config_and_the_packed_model(payload):
    for message in training_messages(planned(7, 8), state(), participants(), codec(payload), 30):
        assert dict(message.content["config"]) == {"server-round": 3, "node": message.metadata.dst_node_id}
        assert message.metadata.message_type == MessageType.TRAIN
        assert message.metadata.group_id == "3"
        assert message.metadata.ttl == 30
        arrays = arrays_of(message)
        expected = np.concatenate([state()[key].numpy().ravel() for key in sorted(state())])
        found = np.concatenate([value.ravel() for value in arrays.values()])
        assert len(arrays) == (3 if payload == "dict" else 1)
        np.testing.assert_array_equal(found, expected.astype(np.float16) if "fp16" in payload else expected)


def test_every_node_gets_the_model_and_the_instruction_to_evaluate():
    instruction = Instruction(tiny_settings(payload="flat"), 7, (0, 1), "test", "title", round=2)
    sent = evaluation_messages(instruction, state(), [9, 7], codec("flat"), 12)
    assert [message.metadata.dst_node_id for message in sent] == [9, 7]
    for message in sent:
        assert (message.metadata.message_type, message.metadata.ttl) == (MessageType.EVALUATE, 12)
        assert dict(message.content["config"]) == instruction.to_config() | {"server-round": 2}
        assert list(arrays_of(message)) == ["flat"]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_strategy_reads_one_array_per_parameter(payload):
    received = {k: v.half().float() if "fp16" in payload else v for k, v in state(seed=2).items()}
    answer = reply(codec(payload).pack_update(state(), received))
    update = read_update(answer, codec(payload), state(seed=2))
    tolerance = {"rtol": 0, "atol": 2**-11} if "fp16" in payload else {"rtol": 0, "atol": 0}
    expected = {k: v if k.endswith("running_var") else state(seed=2)[k] + v - received[k] for k, v in state().items()}
    torch.testing.assert_close(update, expected if "fp16" in payload else state(), **tolerance)
    seen = strategy_reply(answer, update, Report(1.0, Score(np.eye(3, dtype=np.int64), np.zeros(3)), loss=1e6))
    assert seen.content["metrics"]["train-loss"] == MAX_STRATEGY_LOSS
    assert same(from_array_record(seen.content["arrays"]), update)
    assert list(seen.content["arrays"]) == sorted(state())


@pytest.mark.parametrize(
    ("arrays", "payload"),
    [
        ({"flat": np.zeros(16, np.float32)}, "flat"),
        ({"flat": np.zeros(17, np.float16)}, "flat"),
        ({"flat": np.zeros(17, np.float32)}, "flat-fp16"),
        ({"flat": np.zeros((1, 17), np.float32)}, "flat"),
        ({"other": np.zeros(17, np.float32)}, "flat"),
        ({"flat": np.zeros(17, np.float32), "more": np.zeros(1, np.float32)}, "flat"),
        ({"a": np.array(["text"])}, "dict"),
    ],
)
def test_an_update_packed_in_another_way_is_refused(arrays, payload):
    with pytest.raises(RunError):
        read_update(reply(arrays), codec(payload), state())


def test_an_update_that_cannot_be_read_is_refused():
    answer = reply({"flat": np.zeros(17, np.float32)})
    answer.content["arrays"]["flat"].data = b"damaged"
    with pytest.raises(RunError, match="can't be read"):
        read_update(answer, codec("flat"), state())
    del answer.content["arrays"]
    with pytest.raises(RunError, match="no record 'arrays'"):
        read_update(answer, codec("flat"), state())
