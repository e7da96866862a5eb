"""Keyed random numbers: their distribution, and the standard that their bits come from."""

import numpy as np
import torch
from scipy import stats

from fedbus.privacy.keyed_random import CHUNK, KeyedRandom

KEY = bytes(range(32))


def test_equal_keys_give_equal_streams_and_others_do_not():
    first, again, other = (KeyedRandom(key) for key in (KEY, KEY, bytes(32)))
    shape = torch.Size([5, 3])
    for _ in range(2):
        drawn = first.normal(shape)
        assert torch.equal(drawn, again.normal(shape))
        assert not torch.equal(drawn, other.normal(shape))


def test_the_bits_are_those_of_aes_256():
    """The first block of counter mode is the encrypted zero block: NIST's vector for the key of all zeros."""
    expected = np.frombuffer(bytes.fromhex("dc95c078a2408989ad48a21492842087"), dtype="<u8")
    assert np.array_equal(KeyedRandom(bytes(32)).uniform(2), ((expected >> np.uint64(11)) + 0.5) / 2**53)


def test_numbers_are_uniform_and_normal_and_independent():
    random = KeyedRandom(KEY)
    uniform = random.uniform(200_000)
    assert uniform.min() > 0
    assert uniform.max() < 1
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    normal = random.normal(torch.Size([200_001])).numpy()
    assert normal.dtype == np.float32
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    assert abs(np.corrcoef(normal[0:-1:2], normal[1::2])[0, 1]) < 5 / np.sqrt(100_000)
    assert abs(np.corrcoef(normal[0:-1:2] ** 2, normal[1::2] ** 2)[0, 1]) < 5 / np.sqrt(100_000)


def test_a_large_array_is_drawn_in_parts_that_differ():
    drawn = KeyedRandom(KEY).normal(torch.Size([2 * CHUNK + 1]))
    assert not torch.equal(drawn[:CHUNK], drawn[CHUNK : 2 * CHUNK])
    assert abs(float(drawn.std()) - 1) < 5 / np.sqrt(4 * CHUNK)
