"""What decides the arithmetic of a run, and when."""

import pytest
import torch

from fedbus import device
from fedbus.settings.schema import Study
from simulations.precision import settle_precision


@pytest.mark.parametrize(("pays", "expected"), [(True, "bfloat16"), (False, "float32")])
def test_the_machine_decides_unless_the_study_or_a_cluster_does(pays, expected, monkeypatch):
    monkeypatch.setattr(device, "bfloat16_pays", lambda: pays)
    study = Study(device="cpu")
    assert settle_precision(study) == study.model_copy(update={"precision": expected})
    for other in ({"precision": "float32"}, {"precision": "bfloat16"}, {"ray_address": "head:6379"}):
        decided = study.model_copy(update=other)
        assert settle_precision(decided) == decided


def test_what_was_settled_is_what_trains():
    settled = settle_precision(Study(device="cpu")).precision
    assert device.pick_dtype(settled, torch.device("cpu")) == device.pick_dtype("auto", torch.device("cpu"))
