"""The model that a site receives: its files, each written completely or not at all."""

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from clients.received_model import keep_model
from fedbus.errors import RunError
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_scores import SiteScores, score_site
from fedbus.models.state import State
from fedbus.transport.messages import Instruction
from tests.tiny import tiny_settings


def rows() -> Predictions:
    labels = np.repeat(np.arange(3), 6)
    probabilities = np.random.default_rng(0).dirichlet([1, 1, 1], len(labels))
    groups, paths = [f"st-mary/p{i // 2}" for i in range(18)], [f"{i}.png" for i in range(18)]
    return Predictions(labels, probabilities, groups, ["st-mary"] * 18, paths)


def scores() -> SiteScores:
    return score_site(rows(), 20, 0)


def state(size: int = 4, seed: int = 0) -> State:
    generator = torch.Generator().manual_seed(seed)
    return {"fc.weight": torch.rand((3, size), generator=generator), "fc.bias": torch.rand(3, generator=generator)}


def instruction(**changes: object) -> Instruction:
    return Instruction(tiny_settings(**changes), seed=1, classes=(0, 2), split="test", title="study-fedavg-1")


def read(path: Path) -> tuple[State, dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def test_model_and_metrics_are_stored(tmp_path):
    keep_model(tmp_path / "new" / "run", "st-mary", instruction(), state(), scores())
    folder = tmp_path / "new" / "run"
    assert sorted(path.name for path in folder.iterdir()) == ["metrics.json", "model.safetensors"]
    weights, notes = read(folder / "model.safetensors")
    assert weights.keys() == state().keys()
    assert all(torch.equal(weights[key], value) for key, value in state().items())
    assert notes == {
        "model": "test_resnet", "image-size": "32", "classes": "benign,malignant,normal",
        "predicts": "benign,normal",
    }  # fmt: skip
    found = json.loads((folder / "metrics.json").read_text())
    assert (found.pop("site"), found.pop("title")) == ("st-mary", "study-fedavg-1")
    assert found == json.loads(json.dumps(evaluate([rows()], 20, 0)))


def test_a_model_without_masked_classes_predicts_all(tmp_path):
    keep_model(tmp_path, "st-mary", instruction(missing_classes="plain"), state(), scores())
    assert read(tmp_path / "model.safetensors")[1]["predicts"] == "benign,malignant,normal"


def test_nothing_of_a_patient_is_written_beside_the_model(tmp_path):
    keep_model(tmp_path, "st-mary", instruction(), state(), scores())
    text = (tmp_path / "metrics.json").read_text()
    assert ".png" not in text
    assert "/p" not in text


@pytest.mark.parametrize("before", [None, 1])
def test_a_full_disk_leaves_the_old_model_or_none(before, tmp_path):
    if before is not None:
        keep_model(tmp_path, "st-mary", instruction(), state(seed=before), scores())
    names = sorted(path.name for path in tmp_path.iterdir())
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(RunError, match=r"model\.safetensors could not be written"):
            keep_model(tmp_path, "st-mary", instruction(), state(size=4096), scores())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    if before is not None:
        assert torch.equal(read(tmp_path / "model.safetensors")[0]["fc.weight"], state(seed=before)["fc.weight"])


def test_a_second_run_replaces_the_model_of_the_first(tmp_path):
    for seed in (1, 2):
        keep_model(tmp_path, "st-mary", instruction(), state(seed=seed), scores())
    assert torch.equal(read(tmp_path / "model.safetensors")[0]["fc.bias"], state(seed=2)["fc.bias"])
