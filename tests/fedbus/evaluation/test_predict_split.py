"""Predictions on a split of a site: the right rows, in their order, under their names."""

import numpy as np
import pytest
import torch
from torch import nn

from fedbus.evaluation.predict import predict, predict_split
from fedbus.evaluation.predictions import join
from fedbus.models.build import build_model

COLUMNS = ("labels", "probabilities", "groups", "sites", "paths")


@pytest.fixture(scope="module")
def model(two_site_settings) -> nn.Module:
    torch.manual_seed(3)
    return build_model(two_site_settings.model)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_split_has_its_own_rows(split, model, tiny_sites, two_site_settings):
    for site in tiny_sites.values():
        rows = site.splits[split]
        found = predict_split(model, site, split, two_site_settings)
        np.testing.assert_array_equal(
            found.probabilities, predict(model, np.array(site.pixels)[rows], two_site_settings)
        )
        np.testing.assert_array_equal(found.labels, [site.labels[row] for row in rows])
        assert found.paths.tolist() == [str(site.paths[row]) for row in rows]
        assert found.groups.tolist() == [f"{site.name}/{site.groups[row]}" for row in rows]
        assert found.sites.tolist() == [site.name] * len(rows)


def test_the_splits_differ(model, tiny_sites, two_site_settings):
    paths = {
        split: set(predict_split(model, tiny_sites["north"], split, two_site_settings).paths)
        for split in ("train", "test")
    }
    assert not paths["train"] & paths["test"]


def test_absent_classes_get_no_probability(model, tiny_sites, two_site_settings):
    present = torch.tensor([0, 1])
    found = predict_split(model, tiny_sites["north"], "test", two_site_settings, present)
    assert (found.probabilities[:, 2] == 0).all()
    everything = predict_split(model, tiny_sites["north"], "test", two_site_settings).probabilities
    assert (everything[:, 2] > 0).all()
    expected = everything[:, :2] / everything[:, :2].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities[:, :2], expected, rtol=1e-5)


def test_joining_keeps_the_order_given(model, tiny_sites, two_site_settings):
    south, north = (predict_split(model, tiny_sites[name], "test", two_site_settings) for name in ("south", "north"))
    both = join([south, north])
    for column in COLUMNS:
        left, right, found = (getattr(each, column).tolist() for each in (south, north, both))
        assert found == left + right, column
    assert join([north, south]).sites.tolist() == both.sites.tolist()[len(south.sites) :] + south.sites.tolist()
    assert join([north]).paths.tolist() == north.paths.tolist()
