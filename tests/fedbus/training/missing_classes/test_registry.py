"""The choice of a policy, and what all of them share."""

import dataclasses
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from fedbus.settings.schema import Settings
from fedbus.training.missing_classes.criterion import Criterion
from fedbus.training.missing_classes.registry import POLICIES, predictable
from tests.fedbus.training.missing_classes.cases import (
    ALL,
    LACKING,
    NO_BENIGN,
    criterion_of,
    draw_logits,
    site_with,
    value_and_gradient,
    whole_batch,
)
from tests.models import linear_model
from tests.tiny import tiny_settings


def test_every_value_of_the_setting_has_its_loss():
    assert set(POLICIES) == set(get_args(Settings.model_fields["missing_classes"].annotation))


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"balanced"}))
@pytest.mark.parametrize("sampler", ["ros", "class-weights"])
def test_a_site_that_has_all_classes_trains_by_plain_cross_entropy_bit_for_bit(policy, sampler):
    criterion, rows = criterion_of(policy, ALL, sampler=sampler)
    logits = draw_logits(rows)
    expected = F.cross_entropy(logits, rows.labels, weight=rows.class_weights, label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(expected, logits)
    loss, found = value_and_gradient(criterion, logits, rows.labels)
    assert type(criterion) is Criterion
    assert loss == expected.item()
    np.testing.assert_array_equal(found, gradient.double().numpy())


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"plain"}))
@pytest.mark.parametrize("counts", LACKING)
def test_a_site_that_lacks_a_class_trains_by_the_policy(policy, counts):
    assert type(criterion_of(policy, counts)[0]) is POLICIES[policy] is not Criterion


@pytest.mark.parametrize("policy", ["mask", "softened", "balanced"])
@pytest.mark.parametrize("counts", LACKING)
@pytest.mark.parametrize("sampler", ["none", "class-weights"])
def test_smoothing_never_pushes_towards_a_missing_class(policy, counts, sampler):
    criterion, rows = criterion_of(policy, counts, sampler=sampler, label_smoothing=0.6)
    missing = [c for c in range(3) if not counts[c]]
    gradient = value_and_gradient(criterion, draw_logits(rows), rows.labels)[1]
    assert (gradient[:, missing] >= 0).all()
    assert np.abs(gradient).sum() > 0 or len(rows.present) == 1


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_a_class_weight_counts_as_that_number_of_rows(policy):
    settings = {"sampler": "none", "label_smoothing": 0.0, "missing_strength": 0.4}
    rows, settings = site_with(policy, NO_BENIGN, **settings)
    thrice = dataclasses.replace(rows, class_weights=torch.tensor([1.0, 1.0, 3.0]))
    logits, images, times = draw_logits(rows), whole_batch(rows), torch.where(rows.labels == 2, 3, 1)
    weighted = POLICIES[policy](linear_model(), thrice, settings)(logits, rows.labels, images)
    many = [tensor.repeat_interleave(times, 0) for tensor in (logits, rows.labels, images)]
    repeated = POLICIES[policy](linear_model(), rows, settings)(*many)
    assert weighted.item() == pytest.approx(repeated.item(), rel=1e-5)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_only_plain_lets_a_model_predict_a_class_that_no_site_trained_it_on(policy):
    settings = tiny_settings(missing_classes=policy)
    assert predictable([0, 1], settings) == (None if policy == "plain" else [0, 1])
