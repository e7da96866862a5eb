"""A model goes into a message and comes out of it, held or named, rounded only by half precision."""

from pathlib import Path

import pytest
import torch

from fedbus.errors import RunError
from fedbus.transport.packing import layout_of
from fedbus.transport.shared_memory import References
from fedbus.transport.weights import REFERENCE, Carrier

STATE = {"fc.weight": torch.linspace(-1, 1, 12).reshape(3, 4), "scale": torch.tensor(0.1)}


@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("transport", ["dict", "flat", "flat-fp16"])
def test_a_model_arrives(transport: str, named: bool, tmp_path: Path):
    carrier = Carrier(transport, layout_of(STATE), References(tmp_path) if named else None)
    message = carrier.load(carrier.pack(STATE))
    assert (list(message) == [REFERENCE]) == named
    arrived = carrier.unload(message)
    expected = {k: v.half().float() if transport == "flat-fp16" else v for k, v in STATE.items()}
    assert arrived.keys() == STATE.keys()
    assert all(torch.equal(arrived[key], expected[key]) and arrived[key].dtype == torch.float32 for key in STATE)
    carrier.release()
    assert list(tmp_path.iterdir()) == []


def test_a_message_that_names_a_model_is_refused_where_messages_hold_them(tmp_path):
    layout = layout_of(STATE)
    named = Carrier("flat", layout, References(tmp_path))
    with pytest.raises(RunError, match="not packed as flat"):
        Carrier("flat", layout).unload(named.load(named.pack(STATE)))


def test_a_message_that_holds_its_model_is_refused_where_messages_name_them(tmp_path):
    held = Carrier("flat", layout_of(STATE))
    with pytest.raises(RunError, match="names no model"):
        Carrier("flat", held.layout, References(tmp_path)).unload(held.load(held.pack(STATE)))
