"""What decides the arithmetic of a run, and when."""

import pytest
import torch

from fedbus import device
from fedbus.settings.schema import Settings
from simulations.precision import resolve_precision


@pytest.mark.parametrize(("pays", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_the_machine_decides_unless_the_study_or_a_cluster_does(pays, expected, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_is_faster", lambda: pays)
    settings = Settings(device="cpu")
    assert resolve_precision(settings) == settings.model_copy(update={"precision": expected})
    for other in ({"precision": "float32"}, {"precision": "bfloat16"}, {"ray_address": "head:6379"}):
        decided = settings.model_copy(update=other)
        assert resolve_precision(decided) == decided


def test_what_was_settled_is_what_trains():
    settled = resolve_precision(Settings(device="cpu")).precision
    assert device.pick_dtype(settled, torch.device("cpu")) == device.pick_dtype("auto", torch.device("cpu"))
