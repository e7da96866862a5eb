"""Bootstrap draws and intervals against what they must satisfy."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedbus.errors import SettingsError
from fedbus.evaluation import bootstrap

SITES = np.array(["a"] * 30 + ["b"] * 20)
GROUPS = np.array([f"a/{i // 3}" for i in range(30)] + [f"b/{i // 2}" for i in range(20)])


@settings(deadline=None, derandomize=True, max_examples=40)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5)), min_size=1, max_size=40),
    st.integers(1, 12),
    st.integers(0, 2**62),
    st.randoms(use_true_random=False),
)
def test_draws_take_whole_groups_as_many_as_each_site_has_in_any_order(rows, draws, seed, random):
    sites = np.array([site for site, _ in rows])
    groups = np.array([f"{site}/{group}" for site, group in rows])
    weights = bootstrap.draw_weights(groups, sites, draws, seed)
    assert (weights.shape, weights.dtype) == ((draws, len(rows)), np.uint8)
    for site in set(sites):
        first = [np.flatnonzero(groups == group)[0] for group in set(groups[sites == site])]
        assert (weights[:, first].sum(axis=1) == len(first)).all()
        alone = sites == site
        np.testing.assert_array_equal(
            bootstrap.draw_weights(groups[alone], sites[alone], draws, seed), weights[:, alone]
        )
    for group in set(groups):
        members = weights[:, groups == group]
        assert (members == members[:, :1]).all()
    order = random.sample(range(len(rows)), len(rows))
    np.testing.assert_array_equal(bootstrap.draw_weights(groups[order], sites[order], draws, seed), weights[:, order])


def test_counts_are_binomial_and_the_seed_decides():
    weights = bootstrap.draw_weights(GROUPS, SITES, 2500, seed=3)
    # A count is binomial (10, 1/10): mean 1, variance 0.9.
    assert weights.mean() == pytest.approx(1.0, abs=0.02)
    assert weights[:, 0].var() == pytest.approx(0.9, abs=0.1)
    assert (bootstrap.draw_weights(GROUPS, SITES, 2500, seed=4) != weights).any()


def test_no_draws_are_refused():
    with pytest.raises(SettingsError, match="0 bootstrap draws"):
        bootstrap.draw_weights(GROUPS, SITES, 0, seed=1)


def test_interval_is_that_of_the_percentiles_and_ignores_undefined_draws():
    assert bootstrap.interval(np.arange(1001.0)) == (25.0, 975.0)
    assert bootstrap.interval(np.append(np.arange(1001.0), np.nan)) == (25.0, 975.0)


def test_group_intervals_cover_and_row_intervals_do_not():
    """Four images a patient, all right or all wrong together: accuracy is a mean of 50, not of 200."""
    random = np.random.default_rng(12)
    sites = np.full(200, "a")
    patients, images = np.repeat(np.arange(50), 4).astype(str), np.arange(200).astype(str)
    covered = {"patients": 0, "images": 0}
    widths = {"patients": 0.0, "images": 0.0}
    for repetition in range(200):
        right = np.repeat(random.random(50) < 0.7, 4).astype(float)
        for name, groups in (("patients", patients), ("images", images)):
            weights = bootstrap.draw_weights(groups, sites, 400, repetition)
            low, high = bootstrap.interval(weights @ right / weights.sum(axis=1))
            covered[name] += low <= 0.7 <= high
            widths[name] += high - low
    assert 0.88 <= covered["patients"] / 200 <= 0.99
    assert covered["images"] / 200 < 0.75
    assert widths["patients"] == pytest.approx(2 * widths["images"], rel=0.05)
