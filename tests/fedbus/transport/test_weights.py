"""A model goes into a message and comes out of it, held or named, rounded only by half precision."""

from pathlib import Path

import pytest
import torch

from fedbus.errors import RunError
from fedbus.transport.packing import layout_of
from fedbus.transport.shared_memory import SharedArrays
from fedbus.transport.weights import REFERENCE, WeightCodec

STATE = {"fc.weight": torch.linspace(-1, 1, 12).reshape(3, 4), "scale": torch.tensor(0.1)}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("payload", ["dict", "flat", "flat-fp16"])
def test_a_model_arrives(payload: str, named: bool, tmp_path: Path):
    codec = WeightCodec(payload, layout_of(STATE), SharedArrays(tmp_path) if named else None)
    message = codec.to_message(codec.pack(STATE))
    assert (list(message) == [REFERENCE]) == named
    arrived = codec.from_message(message)
    expected = {k: v.half().float() if payload == "flat-fp16" else v for k, v in STATE.items()}
    assert arrived.keys() == STATE.keys()
    assert all(torch.equal(arrived[key], expected[key]) and arrived[key].dtype == torch.float32 for key in STATE)
    codec.release()
    assert list(tmp_path.iterdir()) == []


def test_a_message_that_names_a_model_is_refused_where_messages_hold_them(tmp_path):
    layout = layout_of(STATE)
    named = WeightCodec("flat", layout, SharedArrays(tmp_path))
    with pytest.raises(RunError, match="not packed as flat"):
        WeightCodec("flat", layout).from_message(named.to_message(named.pack(STATE)))


def test_a_message_that_holds_its_model_is_refused_where_messages_name_them(tmp_path):
    held = WeightCodec("flat", layout_of(STATE))
    with pytest.raises(RunError, match="refers to no model"):
        WeightCodec("flat", held.layout, SharedArrays(tmp_path)).from_message(held.to_message(held.pack(STATE)))
