"""What decides the precision of a run, and when."""

import pytest
import torch

from fedbus import device
from fedbus.settings.schema import Settings
from simulations.precision import resolve_precision


@pytest.mark.parametrize(("pays", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_the_machine_decides_unless_the_settings_or_a_cluster_do(pays, expected, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_is_faster", lambda: pays)
    settings = Settings(device="cpu")
    assert resolve_precision(settings) == settings.model_copy(update={"precision": expected})
    for other in ({"precision": "float32"}, {"precision": "bfloat16"}, {"ray_address": "head:6379"}):
        decided = settings.model_copy(update=other)
        assert resolve_precision(decided) == decided


def test_training_uses_the_resolved_precision():
    settled = resolve_precision(Settings(device="cpu")).precision
    assert device.pick_dtype(settled, torch.device("cpu")) == device.pick_dtype("auto", torch.device("cpu"))
