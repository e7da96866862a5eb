"""Distillation of the incoming model against NumPy, and what stays unchanged."""

import copy

import numpy as np
import pytest
import torch

from fedbus.training.losses import make_criterion
from tests.fedbus.training.missing_classes.cases import (
    LACKING,
    NO_BENIGN,
    NO_NORMAL,
    ONE,
    draw_logits,
    probabilities,
    site_with,
    value_and_gradient,
    whole_batch,
)
from tests.models import conv_model, linear_model


def coarse(p: np.ndarray, missing: list[int]) -> np.ndarray:
    return np.column_stack([p[:, missing], 1 - p[:, missing].sum(axis=1)])


@pytest.mark.parametrize("counts", LACKING)
@pytest.mark.parametrize("sampler", ["none", "class-weights"])
def test_the_loss_is_mask_plus_the_divergence_on_the_missing_classes(counts, sampler):
    rows, settings = site_with("distil", counts, missing_strength=0.3, sampler=sampler)
    model = linear_model()
    logits, images = draw_logits(rows), whole_batch(rows)
    found, gradient = value_and_gradient(make_criterion(model, rows, settings), logits, rows.labels, images)
    mask = make_criterion(model, rows, settings.model_copy(update={"missing_classes": "mask"}))
    masked, masked_gradient = value_and_gradient(mask, logits, rows.labels, images)
    missing = [c for c in range(3) if not counts[c]]
    before, now = coarse(probabilities(model(images)), missing), coarse(probabilities(logits), missing)
    weights = rows.class_weights.double().numpy()[rows.labels.numpy()]
    weights = weights / weights.sum()
    divergence = weights @ (before * np.log(before / now)).sum(axis=1)
    assert found == pytest.approx(masked + 0.3 * divergence, rel=1e-4)
    extra = 0.3 * weights[:, None] * (now - before)[:, :-1]
    np.testing.assert_allclose((gradient - masked_gradient)[:, missing], extra, atol=1e-6)


@pytest.mark.parametrize("counts", [NO_NORMAL, NO_BENIGN, ONE])
def test_at_the_start_of_a_round_it_is_mask(counts):
    rows, settings = site_with("distil", counts, missing_strength=1.0)
    model, images = linear_model(), whole_batch(site_with("distil", counts)[0])
    logits = model(images).detach().requires_grad_()
    loss, gradient = value_and_gradient(make_criterion(model, rows, settings), logits, rows.labels, images)
    mask = make_criterion(model, rows, settings.model_copy(update={"missing_classes": "mask"}))
    masked, expected = value_and_gradient(mask, logits, rows.labels, images)
    assert loss == pytest.approx(masked, abs=1e-6)
    np.testing.assert_allclose(gradient, expected, atol=1e-7)
    missing = [c for c in range(3) if not counts[c]]
    np.testing.assert_allclose(gradient[:, missing], 0, atol=1e-7)


def test_the_incoming_model_is_a_frozen_copy_in_evaluation_mode():
    rows, settings = site_with("distil", NO_NORMAL)
    model = conv_model().train()
    criterion, images = make_criterion(model, rows, settings), whole_batch(rows)
    before = copy.deepcopy(criterion.incoming.state_dict())
    loss = criterion(model(images), rows.labels, images)
    loss.backward()
    assert all(p.grad is None for p in criterion.incoming.parameters())
    assert model.training
    assert all(p.requires_grad and p.grad is not None for p in model.parameters())
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    assert all(torch.equal(value, before[key]) for key, value in criterion.incoming.state_dict().items())
