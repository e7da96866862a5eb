"""Sums over sites: with them, the sites' batches together are a pooled, over-sampled batch."""

import numpy as np
import pytest
import torch

from fedbus.errors import SettingsError
from fedbus.training.federation import FederationRows, add_rows, add_steps
from fedbus.training.rows import LEAST_BATCH, federation_rows, pooled_rows, site_rows
from tests.tiny import noise_site, tiny_settings

CPU = torch.device("cpu")

SITES = {
    "north": noise_site("north", (40, 10, 30)),
    "south": noise_site("south", (20, 30, 0), seed=1),  # no normal images
    "west": noise_site("west", (5, 5, 60), seed=2),
}

SHARED = {"balance": "federation", "batches": "proportional"}


def train_counts(site) -> np.ndarray:
    return np.bincount(site.labels[site.splits["train"]], minlength=3)


def rows_of(settings):
    federation = federation_rows(settings, SITES, 0)
    return {name: site_rows(site, settings, 0, CPU, federation) for name, site in SITES.items()}


def test_every_class_grows_by_the_factor_that_equalises_the_classes_of_the_federation():
    federation = FederationRows((1000, 500, 300), 3000)
    assert federation.targets((100, 50, 30)) == {0: 100, 1: 100, 2: 100}
    assert federation.targets((0, 10, 1)) == {1: 20, 2: 3}
    assert federation.targets((0, 0, 0)) == {}


def test_sums_that_would_fill_a_sites_memory_are_refused():
    assert FederationRows((200_000, 1000, 1000), 600_000).targets((5, 5, 0)) == {0: 5, 1: 1000}
    with pytest.raises(SettingsError, match="more than 200 times"):
        FederationRows((10**9, 1000, 1000), 3 * 10**9 - 1).targets((5, 5, 0))


def test_the_sums_are_those_of_the_sites():
    assert add_rows([(3, 2, 0), (1, 4, 2)], [9, 12], "site") == FederationRows((4, 6, 2), 21)
    federation = add_rows([(3, 2, 0), (1, 4, 2)], [9, 12], "federation")
    assert federation.class_counts == (4, 6, 2)
    # Factors 1.5, 1 and 3: 4.5 and 1.5 rows round to even.
    assert federation.balanced == (4 + 2) + (2 + 4 + 6)


def test_the_rows_of_all_sites_together_have_equal_classes_as_pooled_over_sampling_does():
    settings = tiny_settings(**SHARED)
    together = sum(np.bincount(rows.labels, minlength=3) for rows in rows_of(settings).values())
    pooled = np.bincount(pooled_rows(list(SITES.values()), settings, 0, CPU).labels, minlength=3)
    assert np.abs(together - pooled).max() <= len(SITES) / 2  # each site rounds each class
    for name, rows in rows_of(settings).items():
        counts, factor = train_counts(SITES[name]), sum(map(train_counts, SITES.values()))
        expected = counts * factor.max() / factor
        np.testing.assert_allclose(np.bincount(rows.labels, minlength=3), expected, atol=0.5)
        np.testing.assert_array_equal(np.unique(rows.index), np.sort(SITES[name].splits["train"]))


def test_one_step_of_every_site_is_in_expectation_one_pooled_step():
    """The mean of the sites' mean gradients, weighted, against the mean over the pooled rows, for a linear model."""
    settings = tiny_settings(**SHARED, batch_size=32)
    rows = rows_of(settings)
    feature = {name: site.pixels.reshape(len(site.pixels), -1).mean(axis=1) for name, site in SITES.items()}
    total = sum(each.weight(settings) for each in rows.values())
    ours = sum(each.weight(settings) / total * feature[name][each.index.numpy()].mean() for name, each in rows.items())
    names = [(name, row) for name, site in SITES.items() for row in site.splits["train"]]
    labels = np.array([SITES[name].labels[row] for name, row in names])
    values = np.array([feature[name][row] for name, row in names])
    pooled = np.mean([values[labels == label].mean() for label in range(3)])
    assert ours == pytest.approx(pooled, rel=0.02)


def test_batches_are_shares_of_the_batch_with_the_same_number_of_steps():
    settings = tiny_settings(**SHARED, batch_size=32, local_epochs=0.5)
    rows = rows_of(settings)
    sizes = {name: each.batch_size(settings) for name, each in rows.items()}
    total = sum(len(each.index) for each in rows.values())
    assert sizes == {name: round(32 * len(each.index) / total) for name, each in rows.items()}
    assert {each.steps_per_round(settings) for each in rows.values()} == {max(1, round(0.5 * -(-total // 32)))}
    assert {name: each.weight(settings) for name, each in rows.items()} == {
        name: float(len(each.index)) for name, each in rows.items()
    }


def test_a_share_has_a_floor():
    settings = tiny_settings(**SHARED, batch_size=8)
    assert min(each.batch_size(settings) for each in rows_of(settings).values()) == LEAST_BATCH


def test_without_the_sums_a_site_trains_as_it_does_alone():
    settings = tiny_settings(**SHARED)
    alone = site_rows(SITES["north"], settings, 0, CPU)
    plain = site_rows(SITES["north"], tiny_settings(), 0, CPU)
    assert torch.equal(alone.index, plain.index)
    assert alone.batch_size(settings) == settings.batch_size
    assert np.ptp(np.bincount(alone.labels, minlength=3)) == 0


def test_a_site_with_a_single_class_is_over_sampled_too():
    one = noise_site("one", (0, 0, 20))
    federation = FederationRows((36, 12, 12), 108)
    rows = site_rows(one, tiny_settings(**SHARED), 0, CPU, federation)
    assert len(rows.index) == 36
    assert set(rows.index.tolist()) == set(one.splits["train"].tolist())
    again = site_rows(one, tiny_settings(**SHARED), 0, CPU, federation)
    assert torch.equal(rows.index, again.index)


def test_steps_of_shared_batches_count_once():
    assert add_steps([3, 5, 2], "equal") == 10
    assert add_steps([4, 4, 4], "proportional") == 4
