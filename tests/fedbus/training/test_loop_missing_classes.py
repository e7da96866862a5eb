"""What a round does to a class that the site lacks, policy by policy."""

import numpy as np
import pytest
import torch

from fedbus.evaluation.predict import predict
from fedbus.models.state import get_state
from fedbus.training.missing_classes.registry import POLICIES
from tests.fedbus.training.missing_classes.cases import ALL, NO_BENIGN, NO_NORMAL, site_with
from tests.models import PLAIN, conv_model, linear_model, sgd, train, weights_of
from tests.tiny import noise_site


def change_of(policy: str, steps: int, strength: float = 0.2) -> np.ndarray:
    """How far SGD moves the weights [3, 49] of a linear model at a site without normals."""
    rows, settings = site_with(policy, NO_NORMAL, **PLAIN, missing_strength=strength)
    model = linear_model()
    start = weights_of(model)
    train(model, rows, settings, steps, optimiser=sgd(model, settings))
    return weights_of(model) - start


def trained(policy: str, counts: tuple[int, int, int], **changes: object) -> dict[str, torch.Tensor]:
    rows, settings = site_with(policy, counts, **changes)
    model = conv_model()
    train(model, rows, settings, 4)
    return get_state(model)


@pytest.mark.parametrize(("policy", "share"), [("mask", 0), ("softened", 0.2), ("distil", 0), ("plain", 1)])
def test_the_first_step_moves_a_missing_class_by_a_share_of_what_plain_does(policy, share):
    plain, found = change_of("plain", 1), change_of(policy, 1)
    assert plain[2, -1] < 0  # its bias falls
    np.testing.assert_allclose(found[2], share * plain[2], atol=1e-7)
    assert np.abs(found[:2]).max() > 1e-4


@pytest.mark.parametrize(("policy", "strength"), [("restricted", 0.5), ("softened", 0.5), ("balanced", 0.5)])
def test_policies_between_drive_a_missing_class_out_more_slowly_than_plain(policy, strength):
    plain, found = change_of("plain", 5), change_of(policy, 5, strength)
    assert plain[2, -1] < found[2, -1] < 0


def test_a_distilled_model_keeps_its_probability_of_a_missing_class():
    site, moved = noise_site(counts=NO_NORMAL), {}
    for policy in ("distil", "mask", "plain"):
        rows, settings = site_with(policy, NO_NORMAL, **PLAIN, missing_strength=1.0, learning_rate=0.05)
        model = linear_model()
        before = predict(model, site.pixels, settings)
        train(model, rows, settings, 40, optimiser=sgd(model, settings))
        after = predict(model, site.pixels, settings)
        moved[policy] = np.abs(after - before)[:, 2].mean()
        assert (after[:, :2].argmax(axis=1) == site.labels).mean() > (
            before[:, :2].argmax(axis=1) == site.labels
        ).mean()
    assert moved["distil"] < 0.5 * min(moved["mask"], moved["plain"])


@pytest.mark.parametrize("policy", ["distil", "softened"])
def test_at_strength_zero_a_round_is_that_of_mask_bit_for_bit(policy):
    """The incoming model's pass over the batch leaves statistics, draws and gradients alone."""
    expected = trained("mask", NO_BENIGN)
    found = trained(policy, NO_BENIGN, missing_strength=0.0)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())
    assert not torch.equal(trained(policy, NO_BENIGN, missing_strength=1.0)["4.weight"], expected["4.weight"])


@pytest.mark.parametrize("policy", sorted(set(POLICIES) - {"balanced", "plain"}))
def test_a_site_with_all_classes_trains_as_under_plain_bit_for_bit(policy):
    expected, found = trained("plain", ALL), trained(policy, ALL)
    assert all(torch.equal(value, found[key]) for key, value in expected.items())


def test_each_round_distils_from_the_incoming_model():
    """The second round starts at a model of its own: nothing pulls it back to the first round's."""
    rows, settings = site_with("distil", NO_NORMAL, **PLAIN, missing_strength=1.0)
    model = linear_model()
    train(model, rows, settings, 20, optimiser=sgd(model, settings))
    start = weights_of(model)
    train(model, rows, settings, 1, round_number=2, optimiser=sgd(model, settings))
    np.testing.assert_allclose(weights_of(model)[2], start[2], atol=1e-7)
