"""BatchNorm in a federation: its arrays, its statistics, and how they are pooled."""

import pytest
import torch
from torch import nn

from fedbus.models.batch_norm import freeze_batch_norm, own_names, pool_statistics
from fedbus.models.build import build_model
from fedbus.models.state import State, get_state


def test_frozen_batch_norm_keeps_its_statistics_and_the_rest_trains():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = {key: value.clone() for key, value in model[1].state_dict().items()}
    freeze_batch_norm(model)
    model(torch.rand(8, 3, 5, 5))
    assert all(torch.equal(value, before[key]) for key, value in model[1].state_dict().items())
    assert [module.training for module in model] == [True, False, True]


@pytest.mark.parametrize("name", ["test_resnet", "resnetv2_18", "mobilenetv2_035"])
def test_the_arrays_of_batch_norm_are_those_of_torchs_layers(name):
    model = build_model(name)
    layers = [key for key, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    own = {f"{layer}.{part}" for layer in layers for part in ("weight", "bias", "running_mean", "running_var")}
    assert len(own) >= 20
    assert own_names("local", get_state(model)) == sorted(own)
    assert own_names("local-statistics", get_state(model)) == sorted(name for name in own if ".running_" in name)
    assert own_names("average", get_state(model)) == []


def test_activations_inside_batch_norm_and_other_norms_are_not_batch_norm():
    inside = nn.BatchNorm2d(4)
    inside.act = nn.PReLU()
    names = nn.Sequential(inside, nn.GroupNorm(2, 4), nn.BatchNorm2d(4, affine=False)).state_dict()
    first = ["0.bias", "0.running_mean", "0.running_var", "0.weight"]
    assert own_names("local", names) == [*first, "2.running_mean", "2.running_var"]


def samples(count: int, shift: float, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64) * (1 + shift) + shift


def update(values: torch.Tensor) -> State:
    """What a site with these activations sends, beside a weight that pooling must leave alone."""
    mean, variance = values.mean(0).float(), values.var(0, correction=0).float()
    return {"bn.running_mean": mean, "bn.running_var": variance, "bn.weight": torch.ones(6)}


def test_pooled_statistics_are_those_of_all_activations_together():
    sites = [samples(400, 0.0, 1), samples(100, 3.0, 2), samples(250, -1.5, 3)]
    everything = torch.cat(sites)
    pooled = pool_statistics([update(values) for values in sites], [len(values) for values in sites])
    assert pooled.keys() == {"bn.running_mean", "bn.running_var"}
    torch.testing.assert_close(pooled["bn.running_mean"], everything.mean(0).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(pooled["bn.running_var"], everything.var(0, correction=0).float(), rtol=1e-5, atol=0)
    assert {value.dtype for value in pooled.values()} == {torch.float32}


def test_pooling_equal_sites_changes_nothing_and_a_large_mean_does_not_spoil_the_variance():
    mean, variance = torch.full((6,), 1e4), torch.full((6,), 1e-2)
    same = {"bn.running_mean": mean, "bn.running_var": variance}
    pooled = pool_statistics([same, same, same], [3, 1, 7])
    torch.testing.assert_close(pooled["bn.running_mean"], mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(pooled["bn.running_var"], variance, rtol=1e-6, atol=0)
