"""The bytes of messages, which docs/performance.md states for `resnetv2_50`, from the messages themselves."""

import math

import pytest
import torch
from flwr.app import ArrayRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedbus.models.batch_norm import still_names
from fedbus.models.build import model_shapes
from fedbus.models.state import State
from fedbus.transport.messages import Instruction
from fedbus.transport.packing import layout_of, number_of_values
from fedbus.transport.weights import WeightCodec
from server.rounds.flower_messages import evaluation_messages, training_messages
from tests.server.rounds.test_flower_messages import participants, planned
from tests.tiny import tiny_settings

VALUES = 23_551_939


@pytest.fixture(autouse=True)
def _sender():
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


@pytest.fixture(scope="module")
def model() -> State:
    """One value in memory for each array: only shapes count."""
    return {name: torch.zeros(1).expand(shape) for name, shape in model_shapes("resnetv2_50").items()}


def size(message: Message) -> int:
    """The bytes of all arrays, as NumPy's format stores them."""
    records = (record for record in message.content.values() if isinstance(record, ArrayRecord))
    return sum(len(array.data) for record in records for array in record.values())


@pytest.mark.parametrize(("payload", "value", "arrays"), [("flat", 4, 1), ("flat-fp16", 2, 1), ("dict", 4, 251)])
def test_a_site_receives_and_sends_this_many_bytes_per_round(payload, value, arrays, model):
    codec = WeightCodec(payload, layout_of(model))
    assert number_of_values(codec.layout) == VALUES
    received = training_messages(planned(7), model, participants(), codec, 30)[0]
    assert VALUES * value < size(received) <= VALUES * value + 128 * arrays
    sent = codec.pack_update(model, model)
    assert (len(sent), sum(part.nbytes for part in sent.values())) == (arrays, VALUES * value)


def test_a_site_that_has_the_model_receives_no_array_again(model):
    instruction = Instruction(tiny_settings(), 7, (0, 1, 2))
    codec = WeightCodec("flat", layout_of(model))
    first, second = evaluation_messages(instruction, model, [7, 8], codec, 30, informed=[8])
    assert (size(first) > 4 * VALUES, size(second)) == (True, 0)
    assert second.metadata.message_type == MessageType.EVALUATE
    assert isinstance(second.content, RecordDict)


@pytest.mark.parametrize(
    ("policy", "percent"),
    [("average", 0.0), ("pooled", 0.0), ("frozen", 0.19), ("local-statistics", 0.19), ("local", 0.39)],
)
def test_what_a_batch_norm_policy_never_changes_is_a_small_part_of_a_model(policy, percent, model):
    still = sum(math.prod(model[name].shape) for name in still_names(policy, model))
    assert round(100 * still / VALUES, 2) == percent
