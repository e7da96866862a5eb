"""Predictions of a part of a hospital: the right rows, in their order, under their names."""

import numpy as np
import pytest
import torch
from torch import nn

from fedbus.evaluation.predict import join, predict, predict_part
from fedbus.models.build import build_model

COLUMNS = ("labels", "probabilities", "groups", "sites", "paths")


@pytest.fixture(scope="module")
def model(tiny_study) -> nn.Module:
    torch.manual_seed(3)
    return build_model(tiny_study.model)


@pytest.mark.parametrize("part", ["train", "validation", "test"])
def test_a_part_is_its_own_rows(part, model, tiny_sites, tiny_study):
    for site in tiny_sites.values():
        rows = site.parts[part]
        found = predict_part(model, site, part, tiny_study)
        np.testing.assert_array_equal(found.probabilities, predict(model, np.array(site.pixels)[rows], tiny_study))
        np.testing.assert_array_equal(found.labels, [site.labels[row] for row in rows])
        assert found.paths.tolist() == [str(site.paths[row]) for row in rows]
        assert found.groups.tolist() == [f"{site.name}/{site.groups[row]}" for row in rows]
        assert found.sites.tolist() == [site.name] * len(rows)


def test_the_parts_differ(model, tiny_sites, tiny_study):
    paths = {part: set(predict_part(model, tiny_sites["north"], part, tiny_study).paths) for part in ("train", "test")}
    assert not paths["train"] & paths["test"]


def test_absent_classes_get_no_probability(model, tiny_sites, tiny_study):
    present = torch.tensor([0, 1])
    found = predict_part(model, tiny_sites["north"], "test", tiny_study, present)
    assert (found.probabilities[:, 2] == 0).all()
    everything = predict_part(model, tiny_sites["north"], "test", tiny_study).probabilities
    assert (everything[:, 2] > 0).all()
    expected = everything[:, :2] / everything[:, :2].sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found.probabilities[:, :2], expected, rtol=1e-5)


def test_joining_keeps_the_order_given(model, tiny_sites, tiny_study):
    south, north = (predict_part(model, tiny_sites[name], "test", tiny_study) for name in ("south", "north"))
    both = join([south, north])
    for column in COLUMNS:
        left, right, found = (getattr(each, column).tolist() for each in (south, north, both))
        assert found == left + right, column
    assert join([north, south]).sites.tolist() == both.sites.tolist()[len(south.sites) :] + south.sites.tolist()
    assert join([north]).paths.tolist() == north.paths.tolist()
