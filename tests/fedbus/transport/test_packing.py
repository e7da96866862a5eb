"""Packing a model: it is unpacked unchanged, and arrays of anything else are refused."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.transport.packing import FLAT, layout_of, pack, unpack

STATES = st.dictionaries(
    st.text(min_size=1, max_size=8),
    arrays(np.float32, array_shapes(min_dims=0, max_dims=4, max_side=4), elements=st.floats(width=32)),
    min_size=1,
    max_size=6,
).map(lambda state: {name: torch.from_numpy(values) for name, values in state.items()})
"""Models of any names, shapes and values, NaN and infinities included."""


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"stem.weight": (4, 3, 2, 2), "fc.weight": (3, 7), "fc.bias": (3,), "scale": ()}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


def assert_same_values(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert found[name].dtype == torch.float32
        np.testing.assert_array_equal(found[name].numpy(), values.numpy())  # NaN equals NaN here; shapes must be equal


@settings(derandomize=True, deadline=None)
@given(STATES, st.sampled_from(["dict", "flat"]))
def test_any_model_is_unpacked_unchanged(model, payload):
    assert_same_values(unpack(pack(model, payload), payload, layout_of(model)), model)


@settings(derandomize=True, deadline=None)
@given(STATES)
def test_half_precision_rounds_each_value_once_and_is_unpacked_as_float32(model):
    """Values above 65504 become infinite, and the receiver refuses them."""
    packed = pack(model, "flat-fp16")
    assert packed[FLAT].nbytes == 2 * sum(values.numel() for values in model.values())
    rounded = {name: values.half().float() for name, values in model.items()}
    assert_same_values(unpack(packed, "flat-fp16", layout_of(model)), rounded)


def test_a_flat_message_is_one_array_in_the_order_of_names():
    model = state()
    packed = pack(model, "flat")
    assert list(packed) == [FLAT]
    np.testing.assert_array_equal(packed[FLAT], np.concatenate([model[key].numpy().ravel() for key in sorted(model)]))
    assert list(pack(model, "dict")) == sorted(model)


@pytest.mark.parametrize("payload", ["dict", "flat"])
def test_unpacked_values_are_writable(payload):
    model = state()
    packed = pack(model, payload)
    for array in packed.values():
        array.setflags(write=False)
    unpack(packed, payload, layout_of(model))["fc.weight"].add_(1)
    assert torch.equal(model["fc.weight"], state()["fc.weight"])


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        ({}, "not packed as flat"),
        ({"other": np.zeros(73, np.float32)}, "not packed as flat"),
        ({FLAT: np.zeros(73, np.float32), "more": np.zeros(1, np.float32)}, "not packed as flat"),
        ({FLAT: np.zeros(73, np.float64)}, "not packed as flat"),
        ({FLAT: np.zeros((73, 1), np.float32)}, "not packed as flat"),
        ({FLAT: np.zeros(72, np.float32)}, "72 values, not 73"),
        ({FLAT: np.zeros(74, np.float32)}, "74 values, not 73"),
    ],
)
def test_arrays_packed_in_another_way_are_refused(packed, reason):
    with pytest.raises(RunError, match=reason):
        unpack(packed, "flat", layout_of(state()))
