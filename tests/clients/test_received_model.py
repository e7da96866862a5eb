"""The model that a site receives: its files, each written completely or not at all."""

import json
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from clients.received_model import TrainedAt, keep_model
from fedbus.errors import RunError
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_scores import SiteScores, score_site
from fedbus.model_folder.read import read_model
from fedbus.model_folder.seen import Seen
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
    settings = tiny_settings(**changes)
    return Instruction(
        settings, seed=1, classes=(0, 2), split="test", title="study-fedavg-1", arm="fedavg", run="0123456789abcdef"
    )


def ward() -> TrainedAt:
    hashes = np.random.default_rng(5).integers(0, 256, (6, 32), dtype=np.uint8)
    return TrainedAt("st-mary", {"benign": 12, "malignant": 0, "normal": 4}, Seen(hashes, frozenset()), phantoms=True)


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def read(path: Path) -> tuple[State, dict[str, str]]:
    with safe_open(path, "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, file.metadata()  # noqa: SIM118


def test_model_and_metrics_are_stored(tmp_path):
    folder = keep_model(tmp_path / "models", ward(), instruction(), state(), scores())
    assert folder == tmp_path / "models" / "study-fedavg-1"
    assert sorted(path.name for path in folder.iterdir()) == [
        "metrics.json", "model.json", "model.safetensors", "seen-images.safetensors",
    ]  # fmt: skip
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


def test_a_received_model_is_a_model_folder(tmp_path):
    folder = read_model(keep_model(tmp_path, ward(), instruction(), state(), scores()))
    facts = folder.facts
    assert (facts.arm, facts.seed, facts.run, facts.phantoms) == ("fedavg", 1, "0123456789abcdef", True)
    assert facts.predicts == ("benign", "normal")
    assert (facts.architecture, facts.image_size) == ("test_resnet", 32)
    assert {name: site.images for name, site in facts.sites.items()} == {"st-mary": ward().images}
    assert facts.complete, "usable everywhere"
    assert facts.seen_in_part, "the site knows only its own images"
    assert facts.sites["st-mary"].own is None
    assert all(torch.equal(folder.load(facts.weights)[key], value) for key, value in state().items())
    assert {tuple(each) for each in folder.seen().hashes} == {tuple(each) for each in ward().seen.hashes}


@pytest.mark.parametrize("policy", ["local", "local-statistics"])
def test_a_model_with_the_sites_own_batch_norm_says_so(policy, tmp_path):
    facts = read_model(keep_model(tmp_path, ward(), instruction(batch_norm=policy), state(), scores())).facts
    assert not facts.complete, "elsewhere, its statistics are estimated"
    assert facts.sites["st-mary"].own == facts.weights


def test_a_folder_that_an_earlier_version_received_is_refused_with_a_remedy(tmp_path):
    folder = keep_model(tmp_path, ward(), instruction(), state(), scores())
    (folder / "model.json").unlink()
    with pytest.raises(RunError, match=r"study-fedavg-1 .*earlier version") as refused:
        read_model(folder)
    assert "coordinator" in refused.value.remedy


def test_a_model_without_masked_classes_predicts_all(tmp_path):
    folder = keep_model(tmp_path, ward(), instruction(missing_classes="plain"), state(), scores())
    assert read(folder / "model.safetensors")[1]["predicts"] == "benign,malignant,normal"


def test_nothing_of_a_patient_is_written_beside_the_model(tmp_path):
    folder = keep_model(tmp_path, ward(), instruction(), state(), scores())
    text = (folder / "metrics.json").read_text()
    assert ".png" not in text
    assert "/p" not in text


@pytest.mark.parametrize("before", [None, 1])
def test_a_full_disk_leaves_the_old_model_and_no_fragment(before, tmp_path):
    if before is not None:
        keep_model(tmp_path, ward(), instruction(), state(seed=before), scores())
    files = contents(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(RunError, match=r"model\.safetensors could not be written"):
            keep_model(tmp_path, ward(), instruction(), state(size=4096), scores())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(tmp_path) == files


@pytest.mark.parametrize("title", ["study-fedavg-1", "STUDY-fedavg-1"])
def test_a_received_model_is_never_overwritten(title, tmp_path):
    first = keep_model(tmp_path, ward(), instruction(), state(), scores())
    files = contents(tmp_path)
    folders = [
        keep_model(tmp_path, ward(), replace(instruction(), title=title), state(seed=seed), scores()) for seed in (1, 2)
    ]
    assert [folder.name for folder in folders] == [f"{title}.2", f"{title}.3"]
    assert len({path.name.casefold() for path in tmp_path.iterdir()}) == 3, "also where case makes no difference"
    assert {path: content for path, content in contents(tmp_path).items() if first in path.parents} == files
    for seed, folder in zip((1, 2), folders, strict=True):
        assert torch.equal(read(folder / "model.safetensors")[0]["fc.weight"], state(seed=seed)["fc.weight"])


def test_a_title_that_another_model_was_renamed_to_is_not_overwritten_either(tmp_path):
    for seed in (0, 1):
        keep_model(tmp_path, ward(), instruction(), state(seed=seed), scores())
    files = contents(tmp_path)
    again = replace(instruction(), title="study-fedavg-1.2")
    assert keep_model(tmp_path, ward(), again, state(seed=2), scores()).name == "study-fedavg-1.2.2"
    assert files.items() <= contents(tmp_path).items()


def test_a_repeated_request_stores_the_same_model_once(tmp_path):
    kept = [keep_model(tmp_path, ward(), instruction(), state(seed=seed), scores()) for seed in (0, 1, 0, 1)]
    assert [folder.name for folder in kept] == ["study-fedavg-1", "study-fedavg-1.2"] * 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["cut", "metrics", "facts", "seen", "link"])
def test_what_is_no_complete_model_is_not_overwritten(damage, tmp_path):
    folder = keep_model(tmp_path, ward(), instruction(), state(), scores())
    if damage == "cut":
        (folder / "model.safetensors").write_bytes(b"cut")
    elif damage == "metrics":
        (folder / "metrics.json").write_text("{}")
    elif damage == "facts":
        (folder / "model.json").unlink()  # of an earlier version
    elif damage == "seen":
        (folder / "seen-images.safetensors").write_bytes(b"cut")
    else:
        shutil.rmtree(folder)
        folder.symlink_to(tmp_path / "elsewhere")  # to nowhere
    files = contents(tmp_path)
    assert keep_model(tmp_path, ward(), instruction(), state(), scores()).name == "study-fedavg-1.2"
    assert files.items() <= contents(tmp_path).items()
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_killed_process_left_is_deleted_and_nothing_else(tmp_path):
    for name in (".study-fedavg-1.abc12_x9", ".mine", ".mine.backup"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"cut")
    keep_model(tmp_path, ward(), instruction(), state(), scores())
    assert {path.name for path in tmp_path.iterdir()} == {".mine", ".mine.backup", "study-fedavg-1"}
