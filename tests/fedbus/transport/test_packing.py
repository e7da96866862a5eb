"""A model on the wire: it comes back as it was, and what is no such model is refused."""

import numpy as np
import pytest
import torch

from fedbus.errors import RunError
from fedbus.transport.packing import FLAT, layout_of, pack, unpack


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"stem.weight": (4, 3, 2, 2), "fc.weight": (3, 7), "fc.bias": (3,), "scale": ()}
    return {key: torch.randn(shape, generator=generator) for key, shape in shapes.items()}


@pytest.mark.parametrize("payload", ["dict", "flat"])
def test_a_model_comes_back_bit_for_bit(payload):
    given = state()
    back = unpack(pack(given, payload), payload, layout_of(given))
    assert back.keys() == given.keys()
    assert all(torch.equal(back[key], given[key]) and back[key].dtype == torch.float32 for key in given)


def test_half_precision_rounds_each_value_once_and_comes_back_as_float32():
    given = state()
    arrays = pack(given, "flat-fp16")
    assert arrays[FLAT].nbytes == 2 * sum(value.numel() for value in given.values())
    back = unpack(arrays, "flat-fp16", layout_of(given))
    assert all(torch.equal(back[key], given[key].half().float()) for key in given)
    assert {value.dtype for value in back.values()} == {torch.float32}


def test_what_half_precision_can_not_hold_arrives_as_infinite_and_can_be_refused():
    given = {"fc.bias": torch.tensor([1.0, 1e5])}
    back = unpack(pack(given, "flat-fp16"), "flat-fp16", layout_of(given))
    assert back["fc.bias"].tolist() == [1.0, float("inf")]


def test_one_array_travels_and_its_order_is_that_of_the_names():
    given = state()
    arrays = pack(given, "flat")
    assert list(arrays) == [FLAT]
    np.testing.assert_array_equal(arrays[FLAT], np.concatenate([given[key].numpy().ravel() for key in sorted(given)]))
    assert list(pack(given, "dict")) == sorted(given)


@pytest.mark.parametrize("payload", ["dict", "flat"])
def test_what_comes_back_is_a_copy_that_may_be_written(payload):
    given = state()
    arrays = pack(given, payload)
    for array in arrays.values():
        array.setflags(write=False)
    unpack(arrays, payload, layout_of(given))["fc.weight"].add_(1)
    assert torch.equal(given["fc.weight"], state()["fc.weight"])


@pytest.mark.parametrize(
    ("arrays", "words"),
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
def test_what_is_not_packed_as_agreed_is_refused(arrays, words):
    with pytest.raises(RunError, match=words):
        unpack(arrays, "flat", layout_of(state()))
