"""What the hub sees of a site without that site's key can't be told from noise.

Keys are fixed, so the tests always see the same streams. Bounds are six standard deviations: a correct protocol with
other keys would pass too.
"""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fedbus.secure_aggregation import site_session
from fedbus.secure_aggregation.masks import add_masks, agree, negated, pair_mask, self_mask
from fedbus.secure_aggregation.site_session import NUMBERS, VALUES
from tests.fedbus.secure_aggregation.session_parties import Parties, Vectors, site_names

SIZE = (1 << 16, 1 << 15)


@pytest.fixture(scope="module")
def session() -> tuple[Parties, dict[str, Vectors], dict[str, Vectors]]:
    """A session of three sites with fixed keys: what they masked, and what the hub got."""
    random = np.random.default_rng(16)

    class FixedKeys:
        @staticmethod
        def generate() -> Any:
            return real.from_private_bytes(random.bytes(32))

    real = site_session.X25519PrivateKey
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(site_session, "X25519PrivateKey", FixedKeys)
        patch.setattr(site_session.os, "urandom", random.bytes)
        parties = Parties.start(3, SIZE)
    # Far from noise: zeros, one value, a slope.
    contents: list[Any] = [0, 7, np.arange(SIZE[0])]
    vectors: dict[str, Vectors] = {
        name: (
            np.broadcast_to(content, SIZE[0]).astype(np.uint32),
            np.broadcast_to(content, SIZE[0])[: SIZE[1]].astype(np.uint64),
        )
        for name, content in zip(site_names(3), contents, strict=True)
    }
    return parties, vectors, parties.mask(vectors, parties.share())


def is_noise(vector: NDArray[Any]) -> bool:
    """Whether each byte of a vector's words is uniform (chi-square) and neighbours are uncorrelated."""
    words = vector.view(np.uint8).reshape(vector.size, -1)
    expected = vector.size / 256
    for column in words.T:
        statistic = float((np.square(np.bincount(column, minlength=256) - expected) / expected).sum())
        if abs(statistic - 255) > 6 * np.sqrt(2 * 255):
            return False
    real = vector.astype(np.float64)
    return abs(np.corrcoef(real[1:], real[:-1])[0, 1]) < 6 / np.sqrt(vector.size)


def without_self_mask(parties: Parties, name: str, vectors: Vectors) -> Vectors:
    """Remove the self-mask of a site, as the hub can when its seed has been rebuilt."""
    masks = negated([self_mask(parties.sites[name].seed, parties.terms.digest(), name)])
    found = vectors[0].copy(), vectors[1].copy()
    add_masks(found[0], masks, VALUES)
    add_masks(found[1], masks, NUMBERS)
    return found


def test_the_test_tells_noise_from_what_is_summed(session: tuple[Parties, dict[str, Vectors], Any]) -> None:
    _, vectors, _ = session
    assert not any(is_noise(vectors["site-02"][which]) for which in (0, 1))
    assert is_noise(np.random.default_rng(0).integers(0, 2**32, SIZE[0], np.uint32))


@pytest.mark.parametrize("which", [0, 1])
def test_the_vector_of_a_site_is_noise_before_and_after_its_seed_is_known(
    session: tuple[Parties, dict[str, Vectors], dict[str, Vectors]], which: int
) -> None:
    parties, _, masked = session
    for name in masked:
        assert is_noise(masked[name][which])
        assert is_noise(without_self_mask(parties, name, masked[name])[which])


@pytest.mark.parametrize("which", [0, 1])
def test_sums_and_differences_that_leave_out_one_site_are_noise(
    session: tuple[Parties, dict[str, Vectors], dict[str, Vectors]], which: int
) -> None:
    parties, vectors, masked = session
    bare = {name: without_self_mask(parties, name, masked[name])[which] for name in masked}
    for left_out in masked:
        first, second = (bare[name] for name in sorted(bare.keys() - {left_out}))
        assert is_noise(first + second)
        assert is_noise(first - second)
    whole = sum(bare.values())
    assert (whole == sum(vectors[name][which] for name in vectors)).all()  # only the sum of all is none


@pytest.mark.parametrize("which", [0, 1])
def test_a_vector_that_the_hub_calls_lost_is_noise_although_its_masks_with_others_are_rebuilt(
    session: tuple[Parties, dict[str, Vectors], dict[str, Vectors]], which: int
) -> None:
    parties, _, masked = session
    digest, lost = parties.terms.digest(), parties.sites["site-00"]
    masks = [
        pair_mask(agree(lost.mask_key, keys.mask, other), digest, lost.name, other)
        for other, keys in lost.keys.items()
        if other != lost.name
    ]
    found = masked[lost.name][which].copy()
    add_masks(found, negated(masks), (VALUES, NUMBERS)[which])
    assert is_noise(found)


@pytest.mark.parametrize("which", [0, 1])
def test_the_sum_of_all_is_noise_until_the_seeds_are_revealed(
    session: tuple[Parties, dict[str, Vectors], dict[str, Vectors]], which: int
) -> None:
    _, _, masked = session
    assert is_noise(sum(masked[name][which] for name in masked))


def test_two_sessions_with_the_same_vector_share_no_mask() -> None:
    vectors: dict[str, Vectors] = {
        name: (np.zeros(SIZE[0], np.uint32), np.zeros(1, np.uint64)) for name in site_names(3)
    }
    sent = []
    for _ in range(2):
        parties = Parties.start(3, (SIZE[0], 1))
        sent.append(parties.mask(vectors, parties.share())["site-00"][0])
    assert np.count_nonzero(sent[0] == sent[1]) < 10  # one in 2^32 is equal by chance
