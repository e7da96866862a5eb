"""Shamir's secret sharing: rebuilt secrets are those that PyCryptodome rebuilds, whichever sites kept the shares."""

import random
from itertools import combinations

import pytest
from Crypto.Protocol.SecretSharing import Shamir

from fedbus.secure_aggregation.shamir import HALF, combine, split


def combined_by_pycryptodome(shares: dict[int, bytes]) -> bytes:
    halves = [[(place + 1, share[start : start + HALF]) for place, share in shares.items()] for start in (0, HALF)]
    return b"".join(Shamir.combine(half, False) for half in halves)


@pytest.mark.parametrize(("threshold", "number"), [(2, 3), (3, 5), (4, 4)])
def test_every_large_enough_set_of_shares_rebuilds_the_secret(threshold, number):
    generator = random.Random(number)
    for secret in (generator.randbytes(32), bytes(32), b"\xff" * 32):
        shares = split(secret, threshold, number)
        for places in combinations(range(number), threshold):
            assert combine({place: shares[place] for place in places}, threshold) == secret


@pytest.mark.parametrize("seed", range(8))
def test_any_shares_give_the_bits_that_pycryptodome_gives(seed):
    generator = random.Random(seed)
    places = sorted(generator.sample(range(300), generator.randint(2, 20)))
    shares = {place: generator.randbytes(32) for place in places}  # of no polynomial of a lower degree
    assert combine(shares, len(shares)) == combined_by_pycryptodome(shares)


def test_a_hundred_sites_rebuild_secrets_from_different_keepers():
    generator = random.Random(100)
    secrets = [generator.randbytes(32) for _ in range(3)]
    for secret in secrets:
        shares = dict(enumerate(split(secret, 67, 100)))
        for _ in range(2):
            kept = {place: shares[place] for place in generator.sample(range(100), 80)}
            assert combine(kept, 67) == secret


def test_fewer_shares_than_the_threshold_do_not_rebuild_the_secret():
    secret = random.Random(1).randbytes(32)
    shares = split(secret, 3, 5)
    assert combine({0: shares[0], 4: shares[4]}, 2) != secret
