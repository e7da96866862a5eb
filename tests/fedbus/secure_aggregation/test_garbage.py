"""Truncated and garbled bytes at every boundary: an error with a remedy, and never another one."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.errors import RunError
from fedbus.secure_aggregation.fields import LARGEST, read_fields
from fedbus.secure_aggregation.signing import SignedKeys
from fedbus.secure_aggregation.site_session import SiteSession
from fedbus.secure_aggregation.terms import SessionTerms
from fedbus.secure_aggregation.unmasked_sums import remember_sum
from tests.fedbus.secure_aggregation.session_parties import PROPERTY, Parties, make_terms, site_names, some_vectors

TERMS = make_terms(3)


@pytest.fixture(scope="module")
def messages() -> dict[str, bytes]:
    """One good message for each boundary."""
    parties, vectors = Parties.start(3), some_vectors(site_names(3))
    sealed = parties.share()
    parties.mask(vectors, sealed)
    return {
        "terms": TERMS.to_bytes(),
        "keys": parties.key_messages["site-01"],
        "sealed": sealed["site-00"]["site-01"],
        "revealed": parties.sites["site-01"].unmask(site_names(3)),
        "state": parties.sites["site-01"].to_bytes(),
        "record": remember_sum(b"", TERMS, site_names(3)),
    }


@pytest.fixture(scope="module")
def waiting_site() -> Callable[[bytes], None]:
    """A site that waits for the shares of site-01."""
    parties = Parties.start(3)
    sealed = parties.share()["site-00"]
    state = parties.sites["site-00"].to_bytes()
    return lambda data: SiteSession.from_bytes(state).accept(sealed | {"site-01": data})


@pytest.fixture(scope="module")
def readers(waiting_site: Callable[[bytes], None]) -> dict[str, Callable[[bytes], Any]]:
    """What reads the message of each boundary."""
    return {
        "terms": SessionTerms.from_bytes,
        "keys": lambda data: SignedKeys.read(data, TERMS, "site-01"),
        "sealed": waiting_site,
        "revealed": lambda data: read_fields(data, dict.fromkeys(site_names(3), 32), "The shares"),
        "state": SiteSession.from_bytes,
        "record": lambda data: remember_sum(data, TERMS, site_names(3)),
    }


BOUNDARIES = ["terms", "keys", "sealed", "revealed", "state", "record"]


def only_expected(read: Callable[[bytes], Any], data: bytes) -> bool:
    """Read garbled bytes; return whether they were refused. Any other error fails the test."""
    try:
        read(data)
    except RunError as error:
        return bool(error.problem and error.remedy)
    return False


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_truncated_messages_are_refused(
    boundary: str, messages: dict[str, bytes], readers: dict[str, Callable[[bytes], Any]]
) -> None:
    good = messages[boundary]
    for stop in {1, 2, len(good) // 2, len(good) - 1}:
        assert only_expected(readers[boundary], good[:stop])


@pytest.mark.parametrize("boundary", BOUNDARIES)
@settings(PROPERTY, max_examples=25)
@given(data=st.data())
def test_garbled_messages_raise_no_other_error(
    boundary: str, messages: dict[str, bytes], readers: dict[str, Callable[[bytes], Any]], data: st.DataObject
) -> None:
    garbled = bytearray(messages[boundary])
    for _ in range(data.draw(st.integers(1, 3))):
        garbled[data.draw(st.integers(0, len(garbled) - 1))] = data.draw(st.integers(0, 255))
    only_expected(readers[boundary], bytes(garbled))
    only_expected(readers[boundary], data.draw(st.binary(min_size=1, max_size=40)))


LEAVES = st.sampled_from([None, True, 0, -1, 10**400, 1.5, float("nan"), "", "00", "0" * 64, "zz", "\ud800"])
JSON_VALUES = LEAVES | st.lists(LEAVES, max_size=4) | st.dictionaries(st.sampled_from(["", "site-01", "x"]), LEAVES)


@pytest.mark.parametrize("boundary", ["terms", "keys", "revealed", "state", "record"])
@settings(PROPERTY, max_examples=40)
@given(data=st.data())
def test_other_json_in_a_field_raises_no_other_error(
    boundary: str, messages: dict[str, bytes], readers: dict[str, Callable[[bytes], Any]], data: st.DataObject
) -> None:
    values = json.loads(messages[boundary])
    values[data.draw(st.sampled_from(sorted(values)))] = data.draw(JSON_VALUES)
    only_expected(readers[boundary], json.dumps(values).encode())


@pytest.mark.parametrize(
    "garbage",
    [b"", b"null", b"[]", b"7", b"{", b"\xff\xfe", b"[" * 100_000, b"9" * 5000, b" " * (LARGEST + 1)],
    ids=["empty", "null", "list", "number", "open", "no-text", "deep", "long-number", "too-large"],
)
def test_what_is_no_object_is_refused_at_every_boundary(
    garbage: bytes, readers: dict[str, Callable[[bytes], Any]]
) -> None:
    for boundary in BOUNDARIES:
        if boundary != "record" or garbage:  # an empty record is the first one
            assert only_expected(readers[boundary], garbage)


@pytest.mark.parametrize(
    "change",
    [
        {"total_weight": 10**400}, {"total_weight": 0}, {"total_weight": -1.0}, {"update_range": float("nan")},
        {"update_range": float("inf")}, {"round": True}, {"round": -1}, {"round": 1.5}, {"purpose": "else"},
        {"session": "F" * 32}, {"model": ""}, {"title": 3}, {"roster": []}, {"roster": {}}, {"more": 1},
        {"roster": {"../a": "x", "b": "y", "c": "z"}}, {"roster": {"\ud800": "x", "b": "y", "c": "z"}},
        {"roster": {"a": 1, "b": "y", "c": "z"}}, {"roster": {"a": "k 1", "b": "k 1", "c": "k 2"}},
        {"roster": {"a": "x", "b": "y"}},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_terms_that_no_site_should_sign_are_refused(change: dict[str, Any]) -> None:
    values = json.loads(TERMS.to_bytes()) | change
    assert only_expected(SessionTerms.from_bytes, json.dumps(values).encode())


def test_arrays_and_texts_instead_of_bytes_are_refused(readers: dict[str, Callable[[bytes], Any]]) -> None:
    for boundary in BOUNDARIES[:-1]:  # a site reads its own record from a file
        for other in (None, "text", 3, [1], np.zeros(3)):
            assert only_expected(readers[boundary], other)  # type: ignore[arg-type]
