"""Numbers in fixed point modulo 2^64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.errors import OutOfRangeError, RunError
from fedbus.secure_aggregation.fixed_point import MAX_SITES
from fedbus.secure_aggregation.numbers import (
    LARGEST,
    SHARE_BITS,
    NumberFormat,
    decode_numbers,
    encode_numbers,
)
from tests.fedbus.secure_aggregation.session_parties import PROPERTY

FORMATS = (NumberFormat("confusion", 4, 0), NumberFormat("share", 1, SHARE_BITS), NumberFormat("loss", 2, 16))


@settings(PROPERTY, max_examples=60)
@given(st.integers(1, 10), st.integers(0, 2**32))
def test_sums_are_exact_in_the_steps_of_each_entry(number: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    reports = [
        {
            "confusion": random.integers(0, 2**40, (2, 2)),
            "share": random.uniform(0, 1),
            "loss": random.integers(-(2**40), 2**40, 2) / 2**16,
        }
        for _ in range(number)
    ]
    total = np.sum([encode_numbers(report, FORMATS) for report in reports], axis=0, dtype=np.uint64)
    found = decode_numbers(total, FORMATS)
    assert found["confusion"].dtype == np.int64
    assert found["confusion"].tolist() == [
        sum(int(report["confusion"].reshape(-1)[place]) for report in reports) for place in range(4)
    ]
    assert found["loss"] == pytest.approx(sum(report["loss"] for report in reports), abs=0)
    assert found["share"][0] == pytest.approx(sum(report["share"] for report in reports), abs=number * 2**-48)


def test_nothing_overflows_with_the_largest_numbers_of_the_most_sites() -> None:
    assert LARGEST * MAX_SITES < 2**63
    entry = (NumberFormat("count", 2, 0),)
    encoded = encode_numbers({"count": [LARGEST, -LARGEST]}, entry)
    total = (encoded.view(np.int64) * MAX_SITES).view(np.uint64)
    assert decode_numbers(total, entry)["count"].tolist() == [LARGEST * MAX_SITES, -LARGEST * MAX_SITES]


@pytest.mark.parametrize("value", [2.0**32 + 1, -(2.0**32) - 1, np.nan, np.inf, -np.inf, 1e308])
def test_a_number_out_of_range_is_refused_by_name(value: float) -> None:
    with pytest.raises(OutOfRangeError, match="loss is") as error:
        encode_numbers({"confusion": [0] * 4, "share": 1, "loss": [0.0, value]}, FORMATS)
    assert "Nothing was sent" in error.value.remedy


def test_missing_entries_and_other_sizes_are_refused() -> None:
    with pytest.raises(RunError, match="0 numbers share, not 1"):
        encode_numbers({"confusion": [0] * 4, "loss": [0, 0]}, FORMATS)
    with pytest.raises(RunError, match="3 numbers confusion, not 4"):
        encode_numbers({"confusion": [0] * 3, "share": 1, "loss": [0, 0]}, FORMATS)
    for total in (np.zeros(6, np.uint64), np.zeros(7, np.int64)):
        with pytest.raises(RunError, match="other numbers than expected"):
            decode_numbers(total, FORMATS)
