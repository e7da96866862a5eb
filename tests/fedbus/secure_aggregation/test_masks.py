"""Masks and secret shares against other implementations of the same standards."""

import hashlib
import itertools
import tracemalloc

import numpy as np
import pytest
from Crypto.Cipher import AES
from Crypto.Hash import SHA256
from Crypto.Protocol.KDF import HKDF

from fedbus.errors import RunError
from fedbus.secure_aggregation.masks import BLOCK_BYTES, add_masks, agree, derive_key, negated, pair_mask, self_mask
from fedbus.secure_aggregation.shamir import combine, split


def expected_key(secret: bytes, *context: bytes) -> bytes:
    info = b"".join(len(part).to_bytes(4, "big") + part for part in (b"fedbus secure aggregation", *context))
    return bytes(HKDF(secret, 32, b"", SHA256, context=info))


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_a_mask_is_a_stream_of_aes_256_in_counter_mode_under_a_key_of_hkdf(dtype: type) -> None:
    size = 3 * BLOCK_BYTES // np.dtype(dtype).itemsize + 5  # several blocks and a rest
    vector = np.arange(size).astype(dtype)
    masks = [self_mask(b"s" * 32, b"d" * 32, "a"), pair_mask(b"p" * 32, b"d" * 32, "b", "a")]
    expected = vector.copy()
    keys = expected_key(b"s" * 32, b"self", b"d" * 32, b"a"), expected_key(b"p" * 32, b"pair", b"d" * 32, b"a", b"b")
    for key, sign in zip(keys, (1, -1), strict=True):
        cipher = AES.new(expected_key(key, b"stream", b"values"), AES.MODE_CTR, nonce=b"", initial_value=0)
        noise = np.frombuffer(cipher.encrypt(bytes(size * vector.itemsize)), dtype=vector.dtype)
        expected = expected + noise if sign > 0 else expected - noise
    add_masks(vector, masks, b"values")
    assert (vector == expected).all()
    add_masks(vector, negated(masks), b"values")
    assert (vector == np.arange(size)).all()


def test_keys_of_other_contexts_differ_even_if_they_are_spelt_alike() -> None:
    keys = [derive_key(b"k" * 32, *context) for context in ((b"a", b"bc"), (b"ab", b"c"), (b"abc",), (b"abc", b""))]
    assert len(set(keys)) == 4


def test_the_masks_of_two_sites_cancel() -> None:
    vector = np.zeros(10, np.uint32)
    add_masks(vector, [pair_mask(b"p" * 32, b"d", "b", "a"), pair_mask(b"p" * 32, b"d", "a", "b")], b"values")
    assert not vector.any()


def test_masks_take_no_memory_that_grows_with_the_vector() -> None:
    vector = np.zeros(1 << 21, np.uint32)
    tracemalloc.start()
    add_masks(vector, [self_mask(bytes([number]) * 32, b"d", "a") for number in range(10)], b"values")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < vector.nbytes / 8


def test_a_key_with_which_every_secret_is_zero_is_refused_by_the_name_of_its_site() -> None:
    with pytest.raises(RunError, match="site-01 sent a key"):
        agree(b"k" * 32, bytes(32), "site-01")


def test_any_three_of_five_shares_rebuild_a_secret_and_two_do_not() -> None:
    secret = hashlib.sha256(b"secret").digest()
    shares = split(secret, 3, 5)
    for places in itertools.combinations(range(5), 3):
        assert combine({place: shares[place] for place in places}, 3) == secret
    assert combine(dict(enumerate(shares)), 3) == secret
    for places in itertools.combinations(range(5), 2):
        assert combine({place: shares[place] for place in places}, 3) != secret
