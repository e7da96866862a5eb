"""A run folder of version 0.1, written out in full, opens, resumes and is read under the present names."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fedbus.errors import RunError
from fedbus.runs.checkpoint import ArmFolder, arm_folder
from fedbus.runs.folder import is_run, read_settings, run_id
from fedbus.settings.load import build_settings
from tests.tiny import start_run

SETTINGS = """{
  "sites": {"north": {"reader": "busi", "path": "/data/BUSI"}, "south": {"reader": "bus-uclm", "path": "/data/UCLM"}},
  "arms": ["fedavg", "fedavg-tuned"], "seeds": [0], "image-size": 224, "near-bits": 20, "folds": 5, "fold": 0,
  "validation-fraction": 0.15, "split": "groups", "split-seed": 0, "limit": 0, "marks": "masked",
  "phantom-images": 180, "model": "resnetv2_50", "weights": "imagenet", "sampler": "ros", "missing-classes": "mask",
  "missing-strength": 0.2, "head": "average", "batch-norm": "average", "rounds": 3, "local-epochs": 1.0,
  "steps-per-round": 0, "batch-size": 32, "optimiser-state": "reset", "optimiser": "adamw", "learning-rate": 0.0003,
  "weight-decay": 0.01, "schedule": "cosine", "warmup": 0.05, "label-smoothing": 0.1, "augmentation": true,
  "precision": "float32", "device": "cpu", "proximal-mu": 0.1, "site-weights": "distinct", "strategy-options": {},
  "quorum": 0, "round-timeout": 3600.0, "update-limit": 10.0, "transport": "flat-fp16", "workers": 1,
  "ray-address": "", "bootstrap": 2000, "cache": "/cache"
}
"""

PRESENT = {
    "sites": {"north": {"reader": "busi", "path": "/data/BUSI"}, "south": {"reader": "bus-uclm", "path": "/data/UCLM"}},
    "arms": ["fedavg", "fedavg-tuned"], "rounds": 3, "precision": "float32", "device": "cpu", "cache": "/cache",
    "burned-in": "masked", "payload": "flat-fp16", "workers": 1,
}  # fmt: skip
"""The same settings under present keys, without the defaults."""

ENVIRONMENT = '{"created": "2025-06-01T08:00:00+00:00", "command": "fedbus compare", "versions": {}, "machine": {}}\n'

HISTORY = '{"round": 1, "train_loss": 0.9, "seconds": 0.5}\n{"round": 2, "train_loss": 0.8, "seconds": 0.5}\n'

DONE = '{"steps": 72, "kept_round": 2, "seconds": 1.5, "classes": [0, 1, 2]}\n'

DONE_TUNED = """{"steps": 96, "extra_steps": 24, "kept_round": 2, "kept_tuning_rounds": {"north": 1, "south": 0},
 "seconds": 2.1, "classes": [0, 1, 2]}
"""

CHECKPOINT_NOTES = {
    "round": "2",
    "history": json.dumps([json.loads(line) for line in HISTORY.splitlines()]),
    "best_round": "2",
    "best_rank": "[0.5, -0.8]",
}


@pytest.fixture
def old_folder(tmp_path) -> Path:
    for name, content in {
        "study.json": SETTINGS,
        "environment.json": ENVIRONMENT,
        "arms/fedavg/done.json": DONE,
        "arms/fedavg/history.jsonl": HISTORY,
        "arms/fedavg-tuned/done.json": DONE_TUNED,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    save_file({"model/a": torch.ones(2)}, tmp_path / "arms/fedavg/checkpoint.safetensors", CHECKPOINT_NOTES)
    return tmp_path


def test_an_old_folder_is_resumed_with_the_same_settings_and_recorded_under_the_present_names(old_folder):
    settings, before = build_settings(PRESENT, "the tests"), run_id(old_folder)
    start_run(old_folder, settings, resume=True)
    assert json.loads((old_folder / "settings.json").read_text()) == settings.as_dict()
    assert not (old_folder / "study.json").exists()
    assert run_id(old_folder) == before
    start_run(old_folder, settings, resume=True)


def test_the_settings_of_an_old_folder_are_read_without_changing_it(old_folder):
    assert is_run(old_folder)
    assert read_settings(old_folder) == build_settings(PRESENT, "the tests")
    assert (old_folder / "study.json").read_text() == SETTINGS
    assert not (old_folder / "settings.json").exists()


@pytest.mark.parametrize(("key", "value"), [("payload", "dict"), ("burned-in", "kept"), ("rounds", 4)])
def test_other_settings_are_refused_under_their_present_key(old_folder, key, value):
    settings = build_settings(PRESENT | {key: value}, "the tests")
    with pytest.raises(RunError, match=f"{key} was ") as caught:
        start_run(old_folder, settings, resume=True)
    assert str(caught.value).count(" was ") == 2  # "was started" and the one setting
    assert (old_folder / "study.json").read_text() == SETTINGS


def test_the_arms_of_an_old_folder_are_read_under_the_present_names(old_folder):
    shared = arm_folder(old_folder, read_settings(old_folder), "fedavg", 0)
    assert shared.finished
    assert shared.read_facts() == {"steps": 72, "best_round": 2, "seconds": 1.5, "classes": [0, 1, 2]}
    assert [line["train_loss"] for line in shared.read_history()] == [0.9, 0.8]
    tuned = ArmFolder(old_folder / "arms" / "fedavg-tuned").read_facts()
    assert (tuned["best_round"], tuned["best_tuning_rounds"]) == (2, {"north": 1, "south": 0})
    assert not {"kept_round", "kept_tuning_rounds"} & tuned.keys()


def test_an_unfinished_arm_of_an_old_folder_is_not_continued_under_another_rule_for_the_best_round(old_folder):
    with pytest.raises(RunError, match="made by an earlier version") as caught:
        ArmFolder(old_folder / "arms" / "fedavg").load()
    assert "Finish it with that version" in caught.value.remedy


def test_present_settings_win_over_an_old_file_beside_them(old_folder):
    settings = build_settings(PRESENT | {"rounds": 9}, "the tests")
    (old_folder / "settings.json").write_text(json.dumps(settings.as_dict()))
    assert read_settings(old_folder).rounds == 9
