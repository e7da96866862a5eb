"""What a message says of the file with its arrays, from a side that may lie."""

import hashlib

import pytest

from fedbus.errors import RunError
from fedbus.transport.stored_arrays import MOST_ARRAYS, PIECE_BYTES, StoredArrays, check_exchange_name

ARRAYS = {"a": b"first", "b": b"", "c": b"third"}
GOOD = {"sha256": hashlib.sha256(b"firstthird").hexdigest(), "names": ["a", "b", "c"], "sizes": [5, 0, 5]}


def test_the_file_is_the_arrays_one_after_another():
    stored = StoredArrays.of(ARRAYS)
    assert stored.to_config() == GOOD
    assert StoredArrays.from_config(GOOD, 10) == stored
    assert stored.split(b"firstthird") == ARRAYS
    assert StoredArrays.of({}).split(b"") == {}


@pytest.mark.parametrize("content", [b"firstthirx", b"firstthir", b"firstthirdd", b""])
def test_another_file_is_refused(content):
    with pytest.raises(RunError, match="damaged"):
        StoredArrays.of(ARRAYS).split(content)


def test_a_larger_file_than_expected_is_refused():
    with pytest.raises(RunError, match="10 bytes, more than 9"):
        StoredArrays.from_config(GOOD, 9)


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "../../etc/passwd"}, {"sha256": "A" * 64}, {"sha256": 5}, {"sha256": GOOD["sha256"] + "\n"},
        {"names": ["a", "a", "c"]}, {"names": ["a", "b"]}, {"names": 3}, {"names": [1, 2, 3]},
        {"sizes": [5, -5, 10]}, {"sizes": [5.0, 0.0, 5.0]}, {"sizes": None},
        {"names": [f"{i}" for i in range(MOST_ARRAYS + 1)], "sizes": [0] * (MOST_ARRAYS + 1)},
    ],
)  # fmt: skip
def test_what_is_malformed_is_refused(changes):
    with pytest.raises(RunError, match="does not say where"):
        StoredArrays.from_config(GOOD | changes, 1 << 40)
    with pytest.raises(RunError, match="does not say where"):
        StoredArrays.from_config({key: value for key, value in GOOD.items() if key not in changes}, 1 << 40)


@pytest.mark.parametrize("size", [0, 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
def test_the_pieces_cover_the_file(size):
    offsets = StoredArrays("", ("a",), (size,)).offsets()
    assert offsets[0] == 0
    assert max(0, size - PIECE_BYTES) <= offsets[-1] <= max(0, size - 1)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a" * 65, "ü", None, 5])
def test_the_name_of_an_exchange_is_no_path(name):
    with pytest.raises(RunError):
        check_exchange_name(name)
    assert check_exchange_name("fedbus-17-x_9") == "fedbus-17-x_9"
