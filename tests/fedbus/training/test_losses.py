"""What training minimises, against NumPy."""

import pytest
import torch

from fedbus.training.losses import add_proximal_gradient
from fedbus.training.missing_classes.criterion import Criterion
from tests.fedbus.training.missing_classes.cases import (
    ALL,
    NO_NORMAL,
    criterion_of,
    cross_entropy,
    draw_logits,
    probabilities,
    smoothed,
    value_and_gradient,
)
from tests.models import linear_model


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("sampler", ["none", "class-weights"])
@pytest.mark.parametrize("counts", [ALL, NO_NORMAL])
def test_plain_is_weighted_smoothed_cross_entropy_over_all_classes(smoothing, sampler, counts):
    criterion, rows = criterion_of("plain", counts, label_smoothing=smoothing, sampler=sampler)
    assert type(criterion) is Criterion
    logits = draw_logits(rows)
    loss, _ = value_and_gradient(criterion, logits, rows.labels)
    targets = smoothed(rows.labels, smoothing, [0, 1, 2])
    assert loss == pytest.approx(cross_entropy(probabilities(logits), targets, rows), rel=1e-5)


def test_plain_drives_a_missing_class_out_and_smoothing_holds_it_back():
    gradients = {}
    for smoothing in (0.0, 0.9):
        criterion, rows = criterion_of("plain", NO_NORMAL, label_smoothing=smoothing)
        gradients[smoothing] = value_and_gradient(criterion, draw_logits(rows), rows.labels)[1][:, 2]
    assert (gradients[0.0] > 0).all()
    assert (gradients[0.9] < 0).any()


def test_the_proximal_term_pulls_a_drifted_model_back():
    model = linear_model()
    anchors = [p.detach().clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.rand_like(p))
    gradients = [torch.rand_like(p) for p in model.parameters()]
    expected = []
    for p, anchor, gradient in zip(model.parameters(), anchors, gradients, strict=True):
        p.grad = gradient.clone()
        expected.append(p.detach() - 0.1 * (gradient + 0.3 * (p.detach() - anchor)))
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    add_proximal_gradient(list(model.parameters()), anchors, 0.3)
    optimiser.step()
    assert all(torch.allclose(p, e, atol=1e-7) for p, e in zip(model.parameters(), expected, strict=True))


def test_a_parameter_without_a_gradient_is_left_unchanged():
    still, moved = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    moved.grad = torch.zeros(2)
    add_proximal_gradient([still, moved], [torch.zeros(2), torch.zeros(2)], 0.3)
    assert still.grad is None
    torch.testing.assert_close(moved.grad, torch.full((2,), 0.3))
