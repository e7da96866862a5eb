"""The share of a map inside a mask: by hand, at its limits, and as means with intervals."""

import numpy as np
import pytest

from fedbus.explain.energy import energy_shares, largest_shares, summarise


def test_shares_by_hand() -> None:
    maps = np.array([[[1, 2], [3, 4]], [[0, 0], [0, 5]], [[0, 0], [0, 0]]], dtype=np.float32)
    mask = np.array([[False, True], [False, True]])
    shares = energy_shares(maps, np.stack([mask] * 3))
    np.testing.assert_array_equal(shares, [6 / 10, 1, np.nan])


def test_a_map_that_is_the_same_everywhere_has_the_share_of_the_area() -> None:
    masks = np.random.default_rng(0).random((20, 16, 16)) < 0.3
    shares = energy_shares(np.full((20, 2, 2), 0.7, dtype=np.float32), masks)
    np.testing.assert_allclose(shares, masks.mean(axis=(1, 2)))


def test_the_largest_share_is_reached_by_one_position_and_exceeded_by_no_map() -> None:
    random = np.random.default_rng(1)
    masks = random.random((6, 12, 12)) < 0.2
    largest = largest_shares(masks, (3, 3))
    single = np.eye(9, dtype=np.float32).reshape(9, 3, 3)
    np.testing.assert_allclose(
        largest, np.max([energy_shares(np.stack([one] * 6), masks) for one in single], axis=0), rtol=1e-6
    )
    for _ in range(20):
        assert (energy_shares(random.random((6, 3, 3), dtype=np.float32), masks) <= largest + 1e-9).all()


def test_means_are_compared_with_the_area_image_by_image() -> None:
    random = np.random.default_rng(2)
    area, trained = random.random(60), random.random(60)
    trained[7] = np.nan
    groups = np.array([f"north/{row // 2}" for row in range(60)])
    columns = {"trained": trained, "area": area, "none": np.full(60, np.nan)}
    found = summarise(columns, groups, np.array(["north"] * 60), draws=500, seed=0)
    known = np.isfinite(trained)
    assert found["images"] == 60
    assert found["groups"] == 30
    assert found["none"] is None
    assert found["trained"]["images"] == 59
    assert found["trained"]["value"] == pytest.approx(trained[known].mean())
    assert found["trained"]["over_area"]["value"] == pytest.approx((trained - area)[known].mean())
    assert found["area"]["value"] == pytest.approx(area.mean())
    # The interval of a mean of 30 groups of two is close to the normal one.
    error = area.reshape(30, 2).mean(axis=1).std() / np.sqrt(30)
    assert found["area"]["low"] == pytest.approx(area.mean() - 1.96 * error, abs=0.3 * error)
    assert found["area"]["high"] == pytest.approx(area.mean() + 1.96 * error, abs=0.3 * error)
