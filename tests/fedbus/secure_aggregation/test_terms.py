"""The terms of a session: what a site compares with what it is sent, and how many sites a sum needs."""

import dataclasses

import numpy as np
import pytest

from fedbus.errors import RunError
from fedbus.secure_aggregation.numbers import NumberFormat
from fedbus.secure_aggregation.terms import (
    SessionTerms,
    digest_of_arrays,
    digest_of_instruction,
    digest_of_layout,
)
from tests.fedbus.secure_aggregation.session_parties import make_terms


@pytest.mark.parametrize(("sites", "threshold"), [(3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (9, 7), (10, 7), (12, 9)])
def test_more_than_two_thirds_of_the_roster_must_take_part(sites: int, threshold: int) -> None:
    terms = make_terms(sites)
    assert terms.threshold == terms.fewest == threshold
    assert 3 * threshold > 2 * sites >= 3 * (threshold - 1)
    assert 2 * threshold > sites  # so no two groups of sites can answer the hub in two ways


def test_terms_are_read_as_they_were_written() -> None:
    terms = make_terms(4)
    assert SessionTerms.from_bytes(terms.to_bytes()) == terms
    assert SessionTerms.from_bytes(terms.to_bytes()).digest() == terms.digest()


def test_a_site_refuses_another_model_instruction_and_layout_than_the_others_have() -> None:
    arrays = {"flat": np.arange(6, dtype=np.float32)}
    instruction = {"round": 1, "settings": "{}", "names": ["a"], "plan": b"\x01"}
    shapes, formats = {"a": (2, 3)}, [NumberFormat("share", 1, 48)]
    terms = dataclasses.replace(
        make_terms(3), model=digest_of_arrays(arrays), instruction=digest_of_instruction(instruction),
        layout=digest_of_layout(shapes, formats),
    )  # fmt: skip
    terms.check_model({"flat": np.arange(6, dtype=np.float32)})
    terms.check_instruction(dict(reversed(instruction.items())))
    terms.check_layout(shapes, formats)
    for other in (
        {"flat": np.arange(6, dtype=np.float32) + np.float32(1e-6)}, {"flat": np.arange(6, dtype=np.int32)},
        {"flat": np.arange(6, dtype=np.float32).reshape(2, 3)}, {"fiat": arrays["flat"]}, {},
        arrays | {"b": arrays["flat"]},
    ):  # fmt: skip
        with pytest.raises(RunError, match="The model is not the one that the sites agreed on"):
            terms.check_model(other)
    for change in ({"round": 2}, {"plan": b"\x02"}, {"plan": "01"}, {"more": 1}, {"names": ["b"]}):
        with pytest.raises(RunError, match="The instruction is not the one"):
            terms.check_instruction(instruction | change)
    for layout in (({"a": (3, 2)}, formats), (shapes, []), (shapes, [NumberFormat("share", 1, 47)])):
        with pytest.raises(RunError, match="The list of what is summed is not the one"):
            terms.check_layout(*layout)


def test_an_instruction_that_has_no_canonical_form_is_refused() -> None:
    for value in (float("nan"), object(), {1, 2}):
        with pytest.raises(RunError, match="An instruction can't be read"):
            digest_of_instruction({"key": value})


def test_a_share_is_above_zero_and_at_most_one() -> None:
    terms = dataclasses.replace(make_terms(3), total_weight=200.0)
    assert terms.share_of(50) == 0.25
    assert terms.share_of(200.0) == 1
    for weight in (0, -1, 201, float("nan"), float("inf")):
        with pytest.raises(RunError, match="all sites together have 200"):
            terms.share_of(weight)
