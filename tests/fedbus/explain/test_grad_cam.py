"""Grad-CAM against its formula, on a network that is small enough to be computed by hand."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedbus.explain.grad_cam import compute_maps, resize_maps
from fedbus.explain.spatial_layer import find_spatial_layer
from fedbus.models.inputs import MEAN, STD

HEAD = np.array([[2.0, -1.0], [-0.5, 1.5], [0.3, 0.2]], dtype=np.float32)


class BlockMeans(nn.Module):
    """Two maps: the means of blocks of 8 x 8 pixels of the first channel, and their negative; then a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.fc = nn.Conv2d(3, 2, 8, 8, bias=False), nn.Linear(2, 3, bias=False)
        with torch.no_grad():
            self.features.weight.zero_()
            self.features.weight[0, 0], self.features.weight[1, 0] = 1 / 64, -1 / 64
            self.fc.weight.copy_(torch.from_numpy(HEAD))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.features(images).mean((2, 3)))
        return logits


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32), dtype=np.uint8)


def by_hand(images: np.ndarray, classes: list[int], known: list[int]) -> np.ndarray:
    """ReLU of the maps, each weighted by the mean gradient of the class's log-odds among the known classes."""
    means = (images / 255 - MEAN[0]) / STD[0]
    blocks = means.reshape(-1, 4, 8, 4, 8).mean(axis=(2, 4))
    features = np.stack([blocks, -blocks], axis=1)
    logits = features.mean(axis=(2, 3)) @ HEAD.T
    maps = []
    for feature, logit, index in zip(features, logits, classes, strict=True):
        others = [other for other in known if other != index]
        share = np.exp(logit[others]) / np.exp(logit[others]).sum()
        weight = (HEAD[index] - share @ HEAD[others]) / 16
        maps.append(np.maximum(np.tensordot(weight, feature, axes=1), 0))
    return np.stack(maps)


def test_maps_follow_the_formula(images: np.ndarray) -> None:
    model, classes = BlockMeans(), [0, 1, 2, 1, 0]
    layer = find_spatial_layer(model, "by hand", 32)
    found = compute_maps(model, layer, images, np.array(classes))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(images, classes, [0, 1, 2]), rtol=1e-4, atol=1e-6)
    without_normal = compute_maps(model, layer, images, np.array([0, 1, 0, 1, 0]), ("benign", "malignant"))
    np.testing.assert_allclose(without_normal, by_hand(images, [0, 1, 0, 1, 0], [0, 1]), rtol=1e-4, atol=1e-6)


def test_a_constant_that_all_logits_share_changes_nothing(images: np.ndarray) -> None:
    """The map of a class is not empty only because all logits are negative."""
    model, classes = BlockMeans(), np.array([0, 1, 2, 1, 0])
    layer = find_spatial_layer(model, "by hand", 32)
    before = compute_maps(model, layer, images, classes)
    model.fc.bias = nn.Parameter(torch.full((3,), -50.0))
    np.testing.assert_allclose(compute_maps(model, layer, images, classes), before, rtol=1e-3, atol=1e-6)


def test_maps_are_float32_within_mixed_precision_and_leave_the_model_as_it_was(images: np.ndarray) -> None:
    model, classes = BlockMeans(), np.zeros(5, dtype=np.int64)
    model.features.requires_grad_(False)
    layer = find_spatial_layer(model, "by hand", 32)
    expected = compute_maps(model, layer, images, classes)
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
        np.testing.assert_array_equal(compute_maps(model, layer, images, classes), expected)
    assert not model.features._forward_hooks
    assert [parameter.requires_grad for parameter in model.parameters()] == [False, True]
    assert compute_maps(model, layer, images[:0], classes[:0]).shape == (0, 4, 4)


def test_maps_are_enlarged_linearly_between_the_centres_of_positions() -> None:
    found = resize_maps(np.array([[[0, 1], [0, 1]]], dtype=np.float32), (2, 8))
    np.testing.assert_allclose(found[0], [[0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]] * 2)
