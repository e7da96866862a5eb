"""The sum is exact for any survivors and any values."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.errors import RunError
from tests.fedbus.secure_aggregation.session_parties import PROPERTY, Parties, is_sum, site_names, some_vectors

STEPS = ("keys", "share", "mask", "unmask")


@st.composite
def losses(draw: st.DrawFn) -> tuple[int, dict[str, str]]:
    """A number of sites, and the step before which each lost site was lost: as many as the threshold allows."""
    number = draw(st.integers(3, 7))
    spare = number - (2 * number // 3 + 1)
    lost = draw(st.lists(st.sampled_from(site_names(number)), max_size=spare, unique=True))
    return number, {name: draw(st.sampled_from(STEPS)) for name in lost}


@settings(PROPERTY, max_examples=20)
@given(losses(), st.integers(0, 2**32))
def test_any_survivors_and_any_values_give_the_exact_sum(case: tuple[int, dict[str, str]], seed: int) -> None:
    number, lost = case
    vectors = some_vectors(site_names(number), seed=seed)
    parties = Parties.start(number)
    parties.key_messages = {name: data for name, data in parties.key_messages.items() if lost.get(name) != "keys"}
    sealed = parties.share([name for name, step in lost.items() if step == "share"])
    masking = [name for name in vectors if lost.get(name) in (None, "unmask")]
    survivors = parties.collect(parties.mask({name: vectors[name] for name in masking}, sealed))
    assert survivors == masking
    found = parties.unmask(survivors, [name for name, step in lost.items() if step == "unmask"])
    assert is_sum(found, [vectors[name] for name in masking])


def sum_of_ten(step: str, away: list[str]) -> bool:
    """Run a session of ten sites that loses some before a step; return whether its sum is exact."""
    parties, vectors = Parties.start(10), some_vectors(site_names(10))
    masking = sorted(vectors.keys() - (away if step != "unmask" else []))
    if step == "keys":
        for name in away:
            del parties.key_messages[name]
    sealed = parties.share(away if step == "share" else ())
    survivors = parties.collect(parties.mask({name: vectors[name] for name in masking}, sealed))
    found = parties.unmask(survivors, away if step == "unmask" else ())
    return is_sum(found, [vectors[name] for name in masking])


@pytest.mark.parametrize("step", STEPS)
def test_ten_sites_can_lose_three_and_refuse_to_lose_a_fourth_by_name(step: str) -> None:
    lost = ["site-01", "site-04", "site-06", "site-09"]
    assert sum_of_ten(step, lost[:3])
    with pytest.raises(RunError) as error:
        sum_of_ten(step, lost)
    assert "Only 6 of 10 sites" in error.value.problem
    assert "Missing: site-01, site-04, site-06, site-09" in error.value.problem
    assert "--resume" in error.value.remedy


def test_three_sites_can_lose_none_before_the_sum_is_unmasked() -> None:
    parties = Parties.start(3)
    sealed = parties.share()
    masked = parties.mask(some_vectors(site_names(2)), sealed)
    with pytest.raises(RunError, match=r"Only 2 of 3 sites sent masked values; 3 are needed\. Missing: site-02"):
        parties.collect(masked)


def test_a_quorum_above_the_threshold_counts() -> None:
    parties = Parties.start(4, quorum=4)
    sealed = parties.share()
    with pytest.raises(RunError, match="Only 3 of 4 sites sent masked values; 4 are needed"):
        parties.collect(parties.mask(some_vectors(site_names(3)), sealed))


def test_sums_without_values_and_sums_without_numbers() -> None:
    for size in ((0, 3), (3, 0)):
        parties, vectors = Parties.start(3, size), some_vectors(site_names(3), size)
        sealed = parties.share()
        assert is_sum(parties.unmask(parties.collect(parties.mask(vectors, sealed))), list(vectors.values()))
