"""Predictions: the softmax of the model, over the classes that it was trained on."""

import numpy as np
import pytest
import torch

from fedbus.evaluation.predict import predict
from fedbus.models.inputs import normalise
from fedbus.models.state import get_state
from tests.models import conv_model, features, linear_model, softmax, weights_of
from tests.tiny import tiny_settings


def test_images_are_normalised_as_imagenet_was():
    batch = torch.rand(2, 1, 5, 4)
    normal = normalise(batch)
    assert normal.is_contiguous(memory_format=torch.channels_last)
    for channel, (mean, std) in enumerate(zip((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)):
        np.testing.assert_allclose(normal[:, channel].numpy(), (batch[:, 0].numpy() - mean) / std, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("count", [1, 64, 150])
def test_predictions_are_the_softmax_of_the_model(count):
    images = np.random.default_rng(0).integers(0, 256, (count, 32, 32), dtype=np.uint8)
    images.setflags(write=False)
    model = linear_model()
    reported: list[int] = []
    probabilities = predict(model, images, tiny_settings(), progress=reported.append)
    np.testing.assert_allclose(probabilities, softmax(features(images) @ weights_of(model).T), atol=1e-6)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-12)
    assert probabilities.dtype == np.float64
    assert sum(reported) == count


def test_a_class_that_was_not_trained_on_gets_probability_zero():
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32), dtype=np.uint8)
    model = linear_model()
    probabilities = predict(model, images, tiny_settings(), torch.tensor([0, 2]))
    logits = features(images) @ weights_of(model).T
    assert (probabilities[:, 1] == 0).all()
    np.testing.assert_allclose(probabilities[:, [0, 2]], softmax(logits[:, [0, 2]]), atol=1e-6)


def test_predicting_changes_nothing_and_does_not_depend_on_the_other_images():
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8)
    model = conv_model().train()
    before = get_state(model)
    together = predict(model, images, tiny_settings())
    np.testing.assert_allclose(together[3:4], predict(model, images[3:4], tiny_settings()), atol=1e-6)
    assert all(torch.equal(value, before[key]) for key, value in get_state(model).items())
    assert predict(model, images[:0], tiny_settings()).shape == (0, 3)


def test_bfloat16_stays_near_float32():
    images = np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8)
    one, other = (predict(linear_model(), images, tiny_settings(precision=p)) for p in ("float32", "bfloat16"))
    assert 0 < np.abs(one - other).max() < 0.02
