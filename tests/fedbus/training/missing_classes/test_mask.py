"""Masked cross-entropy against NumPy."""

import numpy as np
import pytest

from tests.fedbus.training.missing_classes.cases import (
    LACKING,
    NO_BENIGN,
    NO_NORMAL,
    criterion_of,
    cross_entropy,
    draw_logits,
    probabilities,
    smoothed,
    value_and_gradient,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sampler", ["none", "class-weights"])
@pytest.mark.parametrize("counts", LACKING)
def test_the_loss_is_weighted_smoothed_cross_entropy_over_the_known_classes(smoothing, sampler, counts):
    criterion, rows = criterion_of("mask", counts, label_smoothing=smoothing, sampler=sampler)
    logits = draw_logits(rows)
    known = rows.present.tolist()
    p = np.zeros((len(logits), 3))
    p[:, known] = probabilities(logits[:, known])
    expected = cross_entropy(p, smoothed(rows.labels, smoothing, known), rows)
    assert value_and_gradient(criterion, logits, rows.labels)[0] == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize(("counts", "missing"), [(NO_NORMAL, 2), (NO_BENIGN, 0)])
def test_a_missing_logit_neither_counts_nor_gets_a_gradient(counts, missing):
    criterion, rows = criterion_of("mask", counts)
    logits = draw_logits(rows)
    loss, gradient = value_and_gradient(criterion, logits, rows.labels)
    assert (gradient[:, missing] == 0).all()
    assert (np.delete(gradient, missing, axis=1) != 0).all()
    moved = logits.detach().clone()
    moved[:, missing] += 7
    assert value_and_gradient(criterion, moved.requires_grad_(), rows.labels)[0] == loss
