"""Seeds: the same everywhere and for ever, and different for different work."""

import hashlib
import itertools
import subprocess
import sys

import numpy as np

from fedbus.seeds import derive_seed


def test_the_value_is_the_first_63_bits_of_sha256():
    digest = hashlib.sha256(b"0\x1forder\x1fbusi\x1f3").hexdigest()
    assert derive_seed(0, "order", "busi", 3) == int(digest, 16) >> (256 - 63)


def test_other_processes_derive_the_same():
    code = "from fedbus.seeds import derive_seed; print(derive_seed(7, 'augment', 'north', 2))"
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert int(answer) == derive_seed(7, "augment", "north", 2)


def test_no_two_pieces_of_work_share_a_seed():
    work = itertools.product(range(5), ("order", "augment"), ("a", "ab", "b"), range(40))
    seeds = [derive_seed(*names) for names in work]
    assert len(set(seeds)) == len(seeds)


def test_names_do_not_run_together():
    assert derive_seed(0, "ab", "c") != derive_seed(0, "a", "bc")
    assert derive_seed(1, 2) != derive_seed(12)


def test_seeds_fit_63_bits_and_use_them_all():
    seeds = np.array([derive_seed(i, "x") for i in range(2000)], dtype=np.int64)
    assert seeds.min() >= 0
    share = [float(((seeds >> bit) & 1).mean()) for bit in range(63)]
    assert min(share) > 0.4
    assert max(share) < 0.6
