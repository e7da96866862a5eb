"""A model in a message or referred to by one: received unchanged, except for half precision."""

from pathlib import Path

import pytest
import torch

from fedbus.errors import RunError
from fedbus.transport.packing import layout_of
from fedbus.transport.shared_memory import SharedArrays
from fedbus.transport.weights import REFERENCE, WeightCodec

STATE = {"fc.weight": torch.linspace(-1, 1, 12).reshape(3, 4), "scale": torch.tensor(0.1)}


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("payload", ["dict", "flat", "flat-fp16"])
def test_a_model_is_received(payload: str, shared: bool, tmp_path: Path):
    codec = WeightCodec(payload, layout_of(STATE), SharedArrays(tmp_path) if shared else None)
    message = codec.to_message(codec.pack(STATE))
    assert (list(message) == [REFERENCE]) == shared
    received = codec.from_message(message)
    expected = {k: v.half().float() if payload == "flat-fp16" else v for k, v in STATE.items()}
    assert received.keys() == STATE.keys()
    assert all(torch.equal(received[key], expected[key]) and received[key].dtype == torch.float32 for key in STATE)
    codec.release()
    assert list(tmp_path.iterdir()) == []


def test_a_reference_is_refused_if_messages_contain_their_model(tmp_path):
    layout = layout_of(STATE)
    shared = WeightCodec("flat", layout, SharedArrays(tmp_path))
    with pytest.raises(RunError, match="not packed as flat"):
        WeightCodec("flat", layout).from_message(shared.to_message(shared.pack(STATE)))


def test_a_model_is_refused_if_messages_refer_to_it(tmp_path):
    plain = WeightCodec("flat", layout_of(STATE))
    with pytest.raises(RunError, match="refers to no model"):
        WeightCodec("flat", plain.layout, SharedArrays(tmp_path)).from_message(plain.to_message(plain.pack(STATE)))
