"""Arrays are decoded only if their headers match what follows them and they are no larger than the model."""

import io

import numpy as np
import pytest

from fedbus.errors import RunError
from fedbus.transport.array_bytes import check_array_bytes, most_bytes

LAYOUT = {"a": (3, 4), "b": (5,), "c": ()}


def saved(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_a_model_passes_however_it_is_packed(dtype):
    check_array_bytes({name: saved(np.ones(shape, dtype)) for name, shape in LAYOUT.items()}, LAYOUT)
    check_array_bytes({"flat": saved(np.ones(18, dtype))}, LAYOUT)
    check_array_bytes({}, LAYOUT)


def test_a_header_that_states_more_than_follows_is_refused():
    data = saved(np.ones(18, np.float32))
    stated = b"'shape': (1000000000000,), }"
    forged = data.replace(b"'shape': (18,), }".ljust(len(stated)), stated)
    assert stated in forged
    for damaged in (forged, data[:-1], data + b"\0"):
        with pytest.raises(RunError, match="not what its header says"):
            check_array_bytes({"flat": damaged}, LAYOUT)


def test_more_than_the_model_is_refused():
    for arrays in (
        {"flat": saved(np.ones(most_bytes(LAYOUT), np.float32))},
        dict.fromkeys("abcde", saved(np.ones(1, np.float32))),
    ):
        with pytest.raises(RunError, match="larger than the model"):
            check_array_bytes(arrays, LAYOUT)
