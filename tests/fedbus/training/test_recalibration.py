"""Recalibrated BatchNorm statistics, against a direct computation."""

import numpy as np
import torch
from torch import nn

from fedbus.models.build import place_model
from fedbus.models.inputs import normalise
from fedbus.models.state import get_state
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import site_rows
from tests.tiny import noise_site, tiny_settings

CPU = torch.device("cpu")


def test_the_statistics_are_those_of_the_balanced_training_images_under_the_present_weights():
    settings = tiny_settings()
    rows = site_rows(noise_site(counts=(30, 20, 10)), settings, 0, CPU)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    model[1].running_mean += 5
    with torch.no_grad():
        features = model[0](normalise(rows.images[rows.index].float() / 255))
    recalibrate(model, rows, settings)
    assert len(rows.index) <= 64  # one batch: the statistics are exact
    np.testing.assert_allclose(model[1].running_mean, features.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model[1].running_var, features.var(dim=(0, 2, 3)), rtol=1e-4)
    assert model[1].momentum == 0.1
    assert not model.training
    assert not model[1].training


def test_only_running_statistics_change_and_twice_is_once():
    settings = tiny_settings()
    rows = site_rows(noise_site(counts=(60, 40, 30)), settings, 0, CPU)
    torch.manual_seed(0)
    model = place_model(settings.model, CPU)
    before = get_state(model)
    recalibrate(model, rows, settings)
    after = get_state(model)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.endswith(("running_mean", "running_var")) for name in changed)
    recalibrate(model, rows, settings)
    assert all(torch.equal(value, get_state(model)[name]) for name, value in after.items())


def test_a_model_without_batch_norm_stays_unchanged():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    recalibrate(model, site_rows(noise_site(), tiny_settings(), 0, CPU), tiny_settings())
