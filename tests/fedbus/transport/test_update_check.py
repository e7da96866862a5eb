"""Which updates are refused, at the hub or at the site itself."""

import math

import pytest
import torch

from fedbus.transport.update_check import check_update


def state(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"conv.weight": (4, 3, 3, 3), "bn.running_mean": (4,), "bn.running_var": (4,), "fc.weight": (3, 4)}
    return {key: torch.rand(shape, generator=generator) for key, shape in shapes.items()}


def test_an_update_with_small_changes_is_accepted():
    before = state()
    assert check_update(before, before, 10) is None
    assert check_update({key: value + 0.01 for key, value in before.items()}, before, 10) is None


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda s: s.pop("fc.weight"), "other names"),
        (lambda s: s.update(more=torch.zeros(1)), "other names"),
        (lambda s: s.update({"fc.weight": torch.zeros(4, 3)}), r"fc\.weight has shape \(4, 3\), not \(3, 4\)"),
        (lambda s: s["fc.weight"].view(-1)[5].fill_(math.nan), r"fc\.weight contains values that are not finite"),
        (lambda s: s["conv.weight"].view(-1)[-1].fill_(math.inf), r"conv\.weight contains values that are not finite"),
        (lambda s: s["conv.weight"].view(-1)[0].fill_(-math.inf), r"conv\.weight contains values that are not finite"),
        (lambda s: s["bn.running_var"][2].fill_(-1e-3), r"bn\.running_var contains negative variances"),
        (lambda s: [value.mul_(1000) for value in s.values()], "999 times"),
        (lambda s: s["fc.weight"].fill_(1e30), "times the model's norm"),
    ],
)
def test_an_update_that_must_not_be_averaged_says_why(spoil, reason):
    update = state()
    spoil(update)
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(check_update(update, state(), 10))


def test_a_negative_running_mean_is_accepted():
    update = state()
    update["bn.running_mean"].neg_()
    assert check_update(update, state(), 10) is None


def test_the_limit_is_a_multiple_of_the_models_norm():
    before = state()
    update = {key: 4 * value for key, value in before.items()}  # moves by exactly three norms
    assert check_update(update, before, 3.001) is None
    assert "3 times" in check_update(update, before, 2.999)


def test_a_model_of_zeros_accepts_no_change():
    zeros = {"a": torch.zeros(3)}
    assert check_update(zeros, zeros, 10) is None
    assert check_update({"a": torch.ones(3)}, zeros, 10) is not None
