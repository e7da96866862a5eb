"""Restricted softmax against NumPy."""

import numpy as np
import pytest
import torch

from fedbus.training.missing_classes.criterion import Criterion
from tests.fedbus.training.missing_classes.cases import (
    NO_BENIGN,
    NO_NORMAL,
    criterion_of,
    cross_entropy,
    draw_logits,
    probabilities,
    site_with,
    smoothed,
    value_and_gradient,
)


@pytest.mark.parametrize(("counts", "missing"), [(NO_NORMAL, 2), (NO_BENIGN, 0)])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("sampler", ["none", "class-weights"])
def test_the_softmax_is_of_scaled_logits_and_the_missing_gradient_alpha_times_the_probability(
    counts, missing, alpha, sampler
):
    criterion, rows = criterion_of("restricted", counts, missing_strength=alpha, sampler=sampler, label_smoothing=0.0)
    logits = draw_logits(rows)
    scale = np.ones(3)
    scale[missing] = alpha
    p = probabilities(logits.detach() * torch.from_numpy(scale))
    loss, gradient = value_and_gradient(criterion, logits, rows.labels)
    assert loss == pytest.approx(cross_entropy(p, smoothed(rows.labels, 0.0, [0]), rows), rel=1e-5)
    weights = rows.class_weights.double().numpy()[rows.labels.numpy()]
    np.testing.assert_allclose(gradient[:, missing], alpha * p[:, missing] * weights / weights.sum(), atol=1e-7)
    assert (gradient[:, missing] > 0).all() == (alpha > 0)


@pytest.mark.parametrize("counts", [NO_NORMAL, NO_BENIGN])
def test_at_one_it_is_plain_bit_for_bit_with_its_smoothing(counts):
    rows, settings = site_with("restricted", counts, missing_strength=1.0)
    criterion, _ = criterion_of("restricted", counts, missing_strength=1.0)
    logits = draw_logits(rows)
    loss, gradient = value_and_gradient(criterion, logits, rows.labels)
    plain, expected = value_and_gradient(Criterion(None, rows, settings), logits, rows.labels)
    assert loss == plain
    np.testing.assert_array_equal(gradient, expected)
