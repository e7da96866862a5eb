"""The hub with sites that send wrong, missing or repeated messages."""

from typing import Any

import numpy as np
import pytest

from fedbus.errors import RunError
from fedbus.secure_aggregation.fields import read_json_object, write_fields
from fedbus.secure_aggregation.shamir import split
from fedbus.secure_aggregation.signing import SignedKeys
from tests.fedbus.secure_aggregation.session_parties import (
    SITE_KEYS,
    Parties,
    Vectors,
    is_sum,
    site_names,
    some_vectors,
)


def masked_session(number: int) -> tuple[Parties, dict[str, Vectors], list[str], dict[str, bytes]]:
    """A session up to the shares that all sites revealed."""
    parties, vectors = Parties.start(number), some_vectors(site_names(number))
    sealed = parties.share()
    survivors = parties.collect(parties.mask(vectors, sealed))
    return parties, vectors, survivors, {name: parties.sites[name].unmask(survivors) for name in survivors}


def changed(message: bytes, **fields: bytes) -> bytes:
    """A message of the protocol with other fields."""
    found = {key: bytes.fromhex(value) for key, value in read_json_object(message, "it").items()}
    return write_fields(found | {key.replace("_", "-"): value for key, value in fields.items()})


def share_in(message: bytes, owner: str) -> bytes:
    return bytes.fromhex(read_json_object(message, "it")[owner])


def test_a_wrong_share_is_left_out_by_name_and_the_sum_is_exact() -> None:
    parties, vectors, _, revealed = masked_session(4)
    revealed["site-01"] = changed(revealed["site-01"], site_00=b"x" * 32)
    assert is_sum(parties.hub.unmask(revealed), list(vectors.values()))
    assert parties.hub.refused == {"site-01": "site-01 revealed a wrong share of site-00. Check that site."}


def test_a_repeated_share_is_a_wrong_share() -> None:
    parties, _, _, revealed = masked_session(3)
    repeated = share_in(revealed["site-02"], "site-00")
    revealed["site-01"] = changed(revealed["site-01"], site_00=repeated)
    with pytest.raises(RunError, match=r"Only 2 of 3 .* site-01 \(site-01 revealed a wrong share of site-00"):
        parties.hub.unmask(revealed)


def test_missing_shares_are_named_and_can_be_asked_for_again() -> None:
    parties, vectors, survivors, revealed = masked_session(3)
    late = revealed.pop("site-02")
    with pytest.raises(RunError, match=r"Only 2 of 3 sites revealed their shares; 3 are needed\. Missing: site-02\."):
        parties.hub.unmask(revealed)
    assert parties.sites["site-02"].unmask(survivors) == late
    assert is_sum(parties.hub.unmask(revealed | {"site-02": late}), list(vectors.values()))


def test_a_wrong_share_of_a_sites_own_seed_is_not_needed_where_others_are_left() -> None:
    parties, vectors, _, revealed = masked_session(4)
    revealed["site-01"] = changed(revealed["site-01"], site_01=b"x" * 32)
    assert is_sum(parties.hub.unmask(revealed), list(vectors.values()))
    parties, _, _, revealed = masked_session(3)
    revealed["site-01"] = changed(revealed["site-01"], site_01=b"x" * 32)
    with pytest.raises(RunError, match="site-01 shared a secret that does not fit its keys"):
        parties.hub.unmask(revealed)


@pytest.mark.parametrize("survives", [True, False])
def test_a_site_that_shared_another_secret_than_its_own_is_named(
    survives: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    parties, vectors = Parties.start(4), some_vectors(site_names(4))
    honest = {name: parties.sites[name] for name in site_names(3)}
    keys = parties.hub.take_keys(parties.key_messages)
    shared = {name: site.share(keys) for name, site in honest.items()}
    monkeypatch.setattr(
        "fedbus.secure_aggregation.site_session.split", lambda _, threshold, number: split(b"x" * 32, threshold, number)
    )
    shared["site-03"] = parties.sites["site-03"].share(keys)
    sealed = parties.hub.take_shares(shared)
    survivors = parties.collect(
        parties.mask({name: vectors[name] for name in (vectors if survives else honest)}, sealed)
    )
    with pytest.raises(RunError, match="site-03 shared a secret that does not fit its keys"):
        parties.unmask(survivors)


def test_a_sum_is_unmasked_once() -> None:
    parties, vectors, _, revealed = masked_session(3)
    assert is_sum(parties.hub.unmask(revealed), list(vectors.values()))
    with pytest.raises(RunError, match="unmasked already"):
        parties.hub.unmask(revealed)


def test_keys_signed_by_another_site_are_left_out_by_name() -> None:
    parties = Parties.start(4)
    own = SignedKeys.read(parties.key_messages["site-03"], parties.terms, "site-03")
    forged = SignedKeys.sign(parties.terms, "site-03", SITE_KEYS[5], own.mask, own.share, own.seed)
    parties.key_messages["site-03"] = forged.to_bytes()
    assert parties.hub.take_keys(parties.key_messages).keys() == {"site-00", "site-01", "site-02"}
    assert "site-03 are not signed by its own key" in parties.hub.refused["site-03"]


def test_a_second_masked_vector_and_a_late_one_are_refused_and_change_no_sum() -> None:
    parties, vectors = Parties.start(4), some_vectors(site_names(4))
    masked = parties.mask(vectors, parties.share())
    late = masked.pop("site-03")
    for name, vector in masked.items():
        assert parties.hub.add(name, *vector)
        assert not parties.hub.add(name, *vector)
        assert "second masked vector" in parties.hub.refused[name]
    survivors = parties.hub.survivors()
    assert not parties.hub.add("site-03", *late)
    assert "too late" in parties.hub.refused["site-03"]
    assert is_sum(parties.unmask(survivors), [vectors[name] for name in survivors])


def test_vectors_of_another_size_or_type_and_of_strangers_are_refused() -> None:
    parties = Parties.start(3)
    parties.share()
    good = np.zeros(5, np.uint32), np.zeros(2, np.uint64)
    for values, numbers in (
        (np.zeros(4, np.uint32), good[1]), (good[0].astype(np.int32), good[1]), (np.zeros((5, 1), np.uint32), good[1]),
        (good[0], np.zeros(3, np.uint64)), (good[0], np.zeros(2)),
    ):  # fmt: skip
        assert not parties.hub.add("site-00", values, numbers)
        assert "another size or type" in parties.hub.refused["site-00"]
    assert not parties.hub.add("stranger", *good)
    assert "without having shared" in parties.hub.refused["stranger"]
    with pytest.raises(RunError, match="Only 0 of 3"):
        parties.hub.survivors()


def test_a_site_that_makes_no_share_for_another_one_is_left_out_by_name() -> None:
    parties = Parties.start(4)
    keys = parties.hub.take_keys(parties.key_messages)
    shared = {name: site.share(keys) for name, site in parties.sites.items()}
    del shared["site-02"]["site-00"]
    shared["stranger"] = shared["site-00"]
    assert parties.hub.take_shares(shared).keys() == {"site-00", "site-01", "site-03"}
    assert parties.hub.refused.keys() == {"site-02", "stranger"}


def test_answers_of_sites_without_a_vector_in_the_sum_are_not_used() -> None:
    parties, vectors, survivors, revealed = masked_session(3)
    assert is_sum(parties.hub.unmask(revealed | {"stranger": b"", "site-09": b"?"}), list(vectors.values()))
    assert survivors == site_names(3)


@pytest.mark.parametrize("garbage", [b"", b"{}", b"null", b"\xff" * 144, b"[" * 5000, None, 7, "text", [1]], ids=repr)
def test_garbled_messages_leave_their_site_out_by_name_in_every_step(garbage: Any) -> None:
    parties, vectors = Parties.start(5), some_vectors(site_names(5))
    keys = parties.hub.take_keys(parties.key_messages | {"site-04": garbage})
    shared = {name: parties.sites[name].share(keys) for name in keys}
    if garbage != b"\xff" * 144:  # of the right length: only its receiver can tell
        with pytest.raises(RunError, match=r"Only 3 of 5 .* site-03 \(A share of site-03 is damaged"):
            parties.hub.take_shares(shared | {"site-03": dict.fromkeys(shared["site-03"], garbage)})
    sealed = parties.hub.take_shares(shared)
    survivors = parties.collect(parties.mask({name: vectors[name] for name in keys}, sealed))
    revealed = {name: parties.sites[name].unmask(survivors) for name in survivors}
    with pytest.raises(RunError, match=r"Only 3 of 5 .* site-00 \(The shares that site-00 revealed can't be read"):
        parties.hub.unmask(revealed | {"site-00": garbage})
    assert is_sum(parties.hub.unmask(revealed), [vectors[name] for name in survivors])
    assert "site-04" in parties.hub.refused
