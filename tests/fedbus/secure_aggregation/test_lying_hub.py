"""A site with a hub that lies: what it refuses, and that nothing leaves it then."""

import dataclasses

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedbus.errors import RunError
from fedbus.secure_aggregation.fields import read_json_object
from fedbus.secure_aggregation.signing import SignedKeys
from fedbus.secure_aggregation.site_session import SiteSession
from fedbus.secure_aggregation.terms import SessionTerms
from fedbus.secure_aggregation.unmasked_sums import remember_sum
from tests.fedbus.secure_aggregation.session_parties import (
    SITE_KEYS,
    Parties,
    make_terms,
    site_names,
    some_vectors,
)


def shared(number: int) -> tuple[Parties, dict[str, dict[str, bytes]]]:
    parties = Parties.start(number)
    return parties, parties.share()


def masked(number: int) -> Parties:
    parties, sealed = shared(number)
    parties.mask(some_vectors(site_names(number)), sealed)
    return parties


def test_a_hub_can_not_swap_keys() -> None:
    parties = Parties.start(4)
    honest = parties.key_messages
    # Its own keys, under a signature that it can't make; two sites exchanged; two keys of one site exchanged.
    keys = SignedKeys.read(honest["site-01"], parties.terms, "site-01")
    own = X25519PrivateKey.generate().public_key().public_bytes_raw()
    for lie in (
        {"site-01": dataclasses.replace(keys, share=own).to_bytes()},
        {"site-01": dataclasses.replace(keys, mask=own).to_bytes()},
        {"site-01": dataclasses.replace(keys, seed=own).to_bytes()},
        {"site-01": dataclasses.replace(keys, mask=keys.share, share=keys.mask).to_bytes()},
        {"site-01": honest["site-02"], "site-02": honest["site-01"]},
        {"site-01": SignedKeys.sign(parties.terms, "site-01", SITE_KEYS[2], own, own, own).to_bytes()},
    ):
        with pytest.raises(RunError, match="site-01 are not signed by its own key for this session"):
            parties.sites["site-00"].share(honest | lie)
    assert len(parties.sites["site-00"].share(honest)) == 3  # a lie costs nothing


def test_a_hub_can_not_reuse_the_keys_of_another_session() -> None:
    parties = Parties.start(3)
    other = dataclasses.replace(parties.terms, session="f" * 32)
    old = SiteSession.start(other, "site-01", SITE_KEYS[1])[1]
    with pytest.raises(RunError, match="not signed by its own key for this session"):
        parties.sites["site-00"].share(parties.key_messages | {"site-01": old})


def test_every_field_of_the_terms_is_signed() -> None:
    terms = make_terms(4)
    changes = {
        "session": "f" * 32, "title": "other", "run": "beef", "arm": "fedprox", "round": 2, "purpose": "test",
        "instruction": "a" * 64, "model": "a" * 64, "total_weight": 9.0, "update_range": 1.0, "layout": "a" * 64,
        "roster": make_terms(3).roster,
    }  # fmt: skip
    assert changes.keys() == {field.name for field in dataclasses.fields(SessionTerms)}
    message = SiteSession.start(terms, "site-01", SITE_KEYS[1])[1]
    assert SignedKeys.read(message, SessionTerms.from_bytes(terms.to_bytes()), "site-01")
    for key, value in changes.items():
        with pytest.raises(RunError, match="not signed"):
            SignedKeys.read(message, dataclasses.replace(terms, **{key: value}), "site-01")


def test_a_hub_can_not_replace_a_sites_own_keys_by_older_ones() -> None:
    parties = Parties.start(3)
    again = SiteSession.start(parties.terms, "site-00", SITE_KEYS[0])[1]
    with pytest.raises(RunError, match="other keys of this site than it sent"):
        parties.sites["site-00"].share(parties.key_messages | {"site-00": again})
    quiet = Parties.start(4)
    del quiet.key_messages["site-00"]
    with pytest.raises(RunError, match="other keys of this site than it sent"):
        quiet.sites["site-00"].share(quiet.key_messages)


def test_a_hub_can_not_drop_sites_below_the_threshold() -> None:
    parties = Parties.start(10)
    few = {name: parties.key_messages[name] for name in site_names(6)}
    with pytest.raises(RunError, match="keys of 6 sites; a secure sum of 10 sites needs 7"):
        parties.sites["site-00"].share(few)
    parties, sealed = shared(10)
    with pytest.raises(RunError, match="shares of 6 sites; a secure sum of 10 sites needs 7"):
        parties.sites["site-00"].accept({name: sealed["site-00"][name] for name in site_names(6)[1:]})


def test_shares_for_another_site_session_or_sender_are_refused() -> None:
    parties, sealed = shared(4)
    _, other_sealed = shared(4)
    own = sealed["site-00"]
    for lie in (
        {"site-01": sealed["site-02"]["site-01"]},
        {"site-01": own["site-02"]},
        {"site-01": other_sealed["site-00"]["site-01"]},
        {"site-01": own["site-01"][:-1]},
        {"site-01": own["site-01"][:-1] + bytes([own["site-01"][-1] ^ 1])},
        {"site-01": bytes([own["site-01"][0] ^ 1]) + own["site-01"][1:]},
    ):
        with pytest.raises(RunError, match="A share of site-01 is damaged or was not made for this site"):
            parties.sites["site-00"].accept(own | lie)
    for stranger in ("site-00", "stranger"):
        with pytest.raises(RunError, match=f"shares of {stranger}, which this site does not expect"):
            parties.sites["site-00"].accept(own | {stranger: own["site-01"]})
    parties.sites["site-00"].accept(own)


def test_a_site_shares_once_accepts_once_and_masks_once() -> None:
    parties, sealed = shared(3)
    site, vectors = parties.sites["site-00"], some_vectors(["site-00"])["site-00"]
    with pytest.raises(RunError, match="shares a second time"):
        site.share(parties.key_messages)
    with pytest.raises(RunError, match="masked vectors a second time, or too early"):
        site.mask(*vectors)
    site.accept(sealed["site-00"])
    for state in (site, SiteSession.from_bytes(site.to_bytes())):
        with pytest.raises(RunError, match="a model a second time"):
            state.accept(sealed["site-00"])
    site.mask(*vectors)
    for state in (site, SiteSession.from_bytes(site.to_bytes())):
        before = vectors[0].copy()
        with pytest.raises(RunError, match="masked vectors a second time"):
            state.mask(*vectors)
        assert (vectors[0] == before).all()


def test_a_site_that_has_no_keys_of_others_accepts_nothing() -> None:
    parties, sealed = shared(3)
    fresh, _ = SiteSession.start(parties.terms, "site-00", SITE_KEYS[0])
    with pytest.raises(RunError, match="too early"):
        fresh.accept(sealed["site-00"])


def test_a_site_unmasks_one_list_of_survivors_and_answers_it_again() -> None:
    parties = masked(10)
    site = parties.sites["site-00"]
    answer = site.unmask(site_names(9))
    stored = SiteSession.from_bytes(site.to_bytes())
    for state in (site, stored):
        assert state.unmask(list(reversed(site_names(9)))) == answer
        with pytest.raises(RunError, match="another sum a second time"):
            state.unmask(site_names(10))
        with pytest.raises(RunError, match="another sum a second time"):
            state.unmask(site_names(8))


def test_a_site_never_reveals_both_secrets_of_a_site() -> None:
    parties = masked(10)
    site, survivors = parties.sites["site-03"], site_names(8)
    revealed = read_json_object(site.unmask(survivors), "it")
    assert revealed == {name: (pair.seed if name in survivors else pair.key).hex() for name, pair in site.pairs.items()}


@pytest.mark.parametrize(
    ("survivors", "message"),
    [
        (site_names(6), "vectors of 6 sites; a secure sum of 10 sites needs 7"),
        (site_names(10)[1:], "without this site's vector"),
        ([*site_names(8), "stranger"], "stranger"),
        ([*site_names(7), "site-00"], "a site twice"),
        ([], "without this site's vector"),
    ],
)
def test_a_site_refuses_to_unmask_impossible_lists(survivors: list[str], message: str) -> None:
    parties = masked(10)
    with pytest.raises(RunError, match=message):
        parties.sites["site-00"].unmask(survivors)
    assert parties.sites["site-00"].unmask(site_names(10))


def test_a_site_refuses_survivors_whose_shares_it_did_not_get() -> None:
    parties, sealed = shared(10)
    own = {name: data for name, data in sealed["site-00"].items() if name != "site-09"}
    parties.sites["site-00"].accept(own)
    parties.sites["site-00"].mask(*some_vectors(["site-00"])["site-00"])
    with pytest.raises(RunError, match="site-09"):
        parties.sites["site-00"].unmask(site_names(10))


def test_a_site_does_not_unmask_before_it_has_masked() -> None:
    parties, sealed = shared(3)
    parties.sites["site-00"].accept(sealed["site-00"])
    with pytest.raises(RunError, match="without this site's vector"):
        parties.sites["site-00"].unmask(site_names(3))


def test_a_site_unmasks_one_sum_of_a_round_over_all_sessions() -> None:
    terms = make_terms(10)
    again = dataclasses.replace(terms, session="f" * 32)
    record = remember_sum(b"", terms, site_names(10))
    assert remember_sum(record, again, site_names(10)[::-1]) == record
    with pytest.raises(RunError, match="already unmasked the sum of") as error:
        remember_sum(record, again, site_names(9))
    assert "--resume" in error.value.remedy
    for change in ({"title": "other"}, {"run": "beef"}):  # the hub chooses them
        with pytest.raises(RunError, match="already unmasked"):
            remember_sum(record, dataclasses.replace(again, **change), site_names(9))
    for change in ({"round": 2}, {"purpose": "test"}):
        later = remember_sum(record, dataclasses.replace(again, **change), site_names(9))
        with pytest.raises(RunError, match="already unmasked"):
            remember_sum(later, again, site_names(8))


def test_a_site_evaluates_for_one_set_of_sites_whatever_round_the_hub_names() -> None:
    terms = dataclasses.replace(make_terms(10), purpose="test")
    record = remember_sum(b"", terms, site_names(10))
    with pytest.raises(RunError, match="already unmasked the sum of"):
        remember_sum(record, dataclasses.replace(terms, round=terms.round + 1), site_names(9))


def test_a_site_refuses_a_roster_with_another_key_of_its_own_or_without_it() -> None:
    terms = make_terms(4)
    with pytest.raises(RunError, match="another key for site-01 than its own"):
        SiteSession.start(terms, "site-01", SITE_KEYS[2])
    with pytest.raises(RunError, match="site-09 is not a site of this secure sum"):
        SiteSession.start(terms, "site-09", SITE_KEYS[9])


def key_line(key: object) -> str:
    return key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "can't be read"),
        ("ecdsa-sha2-nistp384 AAAA site-01", "can't be read"),
        ("\ud800", "can't be read"),
        (key_line(ed25519.Ed25519PrivateKey.generate().public_key()), "not an ECDSA key"),
        (key_line(ec.generate_private_key(ec.SECP256R1()).public_key()), "another key for site-01"),
    ],
    ids=["empty", "cut off", "not UTF-8", "Ed25519", "P-256"],  # not the keys: they differ between test processes
)
def test_a_site_refuses_keys_of_other_kinds(line: str, message: str) -> None:
    terms = make_terms(4)
    with pytest.raises(RunError, match=message):
        SiteSession.start(dataclasses.replace(terms, roster={**terms.roster, "site-01": line}), "site-01", SITE_KEYS[1])
