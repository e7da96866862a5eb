"""The sum is exact for any survivors and any values."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fedbus.secure_aggregation.session_parties import Parties, Vectors, site_names


@st.composite
def sessions(draw: st.DrawFn) -> tuple[int, int, set[str], set[str], set[str]]:
    """Numbers of sites, of sites that send keys, and who is lost before sharing, masking and unmasking."""
    number = draw(st.integers(3, 8))
    needed = 2 * number // 3 + 1
    spare = number - needed
    lost = draw(st.lists(st.sampled_from(site_names(number)), max_size=spare, unique=True))
    steps = draw(st.lists(st.sampled_from(["share", "mask", "unmask"]), min_size=len(lost), max_size=len(lost)))
    by_step = [
        {name for name, step in zip(lost, steps, strict=True) if step == which} for which in ("share", "mask", "unmask")
    ]
    return number, draw(st.integers(0, 2**32)), *by_step


@settings(max_examples=20, deadline=None)
@given(sessions())
def test_any_survivors_and_any_values_give_the_exact_sum(
    case: tuple[int, int, set[str], set[str], set[str]],
) -> None:
    number, seed, before_share, before_mask, before_unmask = case
    random = np.random.default_rng(seed)
    vectors: dict[str, Vectors] = {
        name: (random.integers(0, 2**32, 5, np.uint32), random.integers(0, 2**64, 2, np.uint64))
        for name in site_names(number)
    }
    parties = Parties.start(number)
    sealed = parties.share(before_share)
    masking = vectors.keys() - before_share - before_mask
    survivors = parties.collect(parties.mask({name: vectors[name] for name in masking}, sealed))
    values, numbers = parties.unmask(survivors, before_unmask)
    assert [int(value) for value in values] == [sum(int(vectors[n][0][i]) for n in masking) % 2**32 for i in range(5)]
    assert [int(value) for value in numbers] == [sum(int(vectors[n][1][i]) for n in masking) % 2**64 for i in range(2)]
