"""Balanced softmax against NumPy."""

import numpy as np
import pytest
import torch.nn.functional as F

from fedbus.training.missing_classes.balanced import Balanced
from tests.fedbus.training.missing_classes.cases import (
    ALL,
    LACKING,
    NO_NORMAL,
    criterion_of,
    cross_entropy,
    draw_logits,
    probabilities,
    smoothed,
    value_and_gradient,
)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sampler", ["none", "class-weights", "ros"])
@pytest.mark.parametrize("counts", [ALL, *LACKING])
def test_the_softmax_is_weighed_by_the_rows_of_each_class_and_one(smoothing, sampler, counts):
    criterion, rows = criterion_of("balanced", counts, label_smoothing=smoothing, sampler=sampler)
    logits = draw_logits(rows)
    odds = probabilities(logits) * [1 + (rows.labels.numpy() == c).sum() for c in range(3)]
    p = odds / odds.sum(axis=1, keepdims=True)
    expected = cross_entropy(p, smoothed(rows.labels, smoothing, rows.present.tolist()), rows)
    assert value_and_gradient(criterion, logits, rows.labels)[0] == pytest.approx(expected, rel=1e-4)


def test_a_site_with_all_classes_already_balanced_trains_by_plain_cross_entropy():
    criterion, rows = criterion_of("balanced", ALL, sampler="ros")
    assert isinstance(criterion, Balanced)
    logits = draw_logits(rows)
    plain = F.cross_entropy(logits, rows.labels, label_smoothing=0.1)
    assert value_and_gradient(criterion, logits, rows.labels)[0] == pytest.approx(plain.item(), rel=1e-5)


def test_a_missing_class_is_pushed_down_far_less_than_under_plain():
    gradients = {}
    for policy in ("balanced", "plain"):
        criterion, rows = criterion_of(policy, NO_NORMAL, sampler="ros", label_smoothing=0.0)
        logits = draw_logits(rows).detach().zero_().requires_grad_()
        gradients[policy] = value_and_gradient(criterion, logits, rows.labels)[1][:, 2] * len(logits)
    np.testing.assert_allclose(gradients["plain"], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(gradients["balanced"], 1 / (len(rows.labels) + 3), rtol=1e-5)
