"""A packed study trained with few packages gives the predictions of a usual comparison, cut by its budget or not."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console
from safetensors.torch import save_file

from fedbus.errors import RunError, SettingsError
from fedbus.evaluation.predictions import Predictions
from fedbus.models.start import start_state
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from simulations.arm import list_arms
from simulations.compare import compare
from simulations.portable import pack as packing
from simulations.portable.pack import pack, pack_weights
from simulations.portable.pixels import LOSSLESS, decode, encode
from simulations.portable.results_file import PackedResults
from simulations.portable.run import RESULTS_FILE, list_trainings, packed_start, run
from simulations.portable.study_file import STUDY_FILE, WEIGHTS_FILE, PackedStudy
from simulations.portable.unpack import unpack
from simulations.portable.weights_file import load_weights, save_weights
from tests.bare_machine import BLOCKER

ROOT = Path(__file__).resolve().parents[3]
FOLDS = (0, 2)

RUN = f"{BLOCKER}\nfrom simulations.portable.run import main\nsys.exit(main(sys.argv[1:]))"


@pytest.fixture(scope="module")
def settings(two_site_settings: Settings) -> Settings:
    changes = {
        "rounds": 2, "engine": "in-process", "arms": ("local", "centralised", "fedavg", "fedprox", "fedavg-blended"),
        "balance": "federation", "batches": "proportional", "batch_norm": "local", "recalibrate": True,
        "precision": "float32",
    }  # fmt: skip
    return two_site_settings.model_copy(update=changes)


@pytest.fixture(scope="module")
def packed(settings: Settings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed")
    pack(settings, out, FOLDS, LOSSLESS)
    return out


@pytest.fixture(scope="module")
def results(packed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of a process that can import nothing but what the other machine has."""
    out = tmp_path_factory.mktemp("results")
    subprocess.run([sys.executable, "-c", RUN, packed / STUDY_FILE, out], check=True, cwd=ROOT)
    return out / RESULTS_FILE


def test_the_predictions_are_those_of_a_usual_comparison(settings, packed, results, tmp_path):
    content = unpack(packed, PackedResults.load(results), tmp_path / "study", Console(quiet=True))
    for fold in FOLDS:
        of_fold = settings.model_copy(update={"fold": fold})
        compare(of_fold, tmp_path / str(fold), resume=False, console=Console(quiet=True))
        folder = tmp_path / "study" / "cells" / "portable" / f"fold-{fold}"
        for arm, other in zip(list_arms(of_fold, tmp_path / str(fold)), list_arms(of_fold, folder), strict=True):
            expected, found = (Predictions.from_csv(each.folder.path / "predictions.csv") for each in (arm, other))
            assert np.array_equal(expected.probabilities, found.probabilities), (fold, arm.name)
            assert expected.groups.tolist() == found.groups.tolist()
            assert expected.paths.tolist() == found.paths.tolist()
    assert content["tested_folds"] == list(FOLDS)
    assert {"local", "centralised", "fedavg", "fedprox", "fedavg-blended"} <= content["cells"]["portable"][
        "arms"
    ].keys()
    assert content["cells"]["portable"]["claims"]["fedavg"]["not_worse"].keys() == {"centralised"}


def test_a_run_cut_by_its_budget_and_continued_equals_an_uncut_one(packed, results, tmp_path):
    study, calls = PackedStudy.load(packed / STUDY_FILE), 0
    left = list_trainings(study, tmp_path)
    while left:
        before, left = left, run(study, tmp_path, None, 0.0, tmp_path / "checkpoints")
        calls += 1
        assert len(left) in (len(before), len(before) - 1)
    assert calls > len(FOLDS) * 5
    assert _without_seconds(PackedResults.load(tmp_path / RESULTS_FILE)) == _without_seconds(
        PackedResults.load(results)
    )
    assert not list((tmp_path / "checkpoints").glob("**/*.safetensors"))


def _without_seconds(results: PackedResults) -> object:
    if isinstance(results, PackedResults):
        return _without_seconds(results.trainings)
    if isinstance(results, dict):
        return {k: _without_seconds(v) for k, v in results.items() if k not in ("seconds", "site_seconds")}
    return [_without_seconds(value) for value in results] if isinstance(results, list) else results


def test_the_most_valuable_trainings_come_first(packed, tmp_path):
    found = [(fold, arm.name) for fold, arm in list_trainings(PackedStudy.load(packed / STUDY_FILE), tmp_path)]
    assert found[:4] == [(0, "centralised"), (2, "centralised"), (0, "fedavg"), (2, "fedavg")]
    assert {name for _, name in found[4:8]} == {"local-north", "local-south"}
    assert found[8:] == [(0, "fedprox"), (2, "fedprox")]


def test_arms_that_are_not_finished_on_every_fold_are_left_out(packed, results, tmp_path):
    some = PackedResults.load(results)
    some.trainings = [e for e in some.trainings if (e["fold"], e["arm"]) not in ((2, "fedprox"), (0, "local-north"))]
    content = unpack(packed, some, tmp_path, Console(quiet=True))
    assert content["cells"]["portable"]["arms"].keys() == {"centralised", "fedavg"}


def test_results_of_other_rows_are_refused(packed, results, tmp_path):
    other = PackedResults.load(results)
    other.trainings[0]["predictions"]["north"]["rows"][0] += 1
    with pytest.raises(RunError, match="other test rows of north"):
        unpack(packed, other, tmp_path, Console(quiet=True))


def test_results_of_another_study_are_refused(packed, results, tmp_path):
    study = PackedStudy.load(packed / STUDY_FILE)
    other = PackedStudy({**study.values, "rounds": 9}, study.folds, study.quality, study.tensors)
    with pytest.raises(RunError, match="another study"):
        run(other, results.parent, None, 0.0, tmp_path)


def test_no_path_and_no_name_of_a_dataset_travels(settings, packed):
    content = (packed / STUDY_FILE).read_bytes()
    for source in settings.sites.values():
        assert str(source.path).encode() not in content
    assert str(settings.cache).encode() not in content
    study = PackedStudy.load(packed / STUDY_FILE)
    assert {tensor.dtype.kind for tensor in study.tensors.values()} == {"i", "u"}


def test_a_file_that_is_too_large_is_refused_with_a_remedy(settings, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MOST_BYTES", 1000)
    with pytest.raises(RunError, match="--quality"):
        pack(settings, tmp_path, (0,), 50)
    assert not (tmp_path / STUDY_FILE).exists()


@pytest.mark.parametrize(
    "changes", [{"sampler": "smote", "balance": "site"}, {"split": "images"}, {"arms": ("fedavg", "fedavg-tuned")}]
)
def test_settings_that_can_not_be_packed_are_refused(changes, settings, tmp_path):
    with pytest.raises(SettingsError, match="can't be packed"):
        pack(settings.model_copy(update=changes), tmp_path, (0,), LOSSLESS)


def test_images_survive_lossless_and_nearly_survive_otherwise():
    ramp = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)[None].repeat(2, axis=0)
    used = np.array([True, False])
    exact = decode(**encode(ramp, used, LOSSLESS), size=64)
    assert np.array_equal(exact[0], ramp[0])
    assert not exact[1].any()
    smooth = (ramp // 4 + 64).astype(np.uint8)
    assert np.abs(decode(**encode(smooth, used, 90), size=64)[0].astype(int) - smooth[0]).mean() < 4


def test_start_weights_travel_as_bfloat16_without_the_classifier(settings, tmp_path):
    given = start_state("test_resnet", "none", 5)
    save_file(given, tmp_path / "given.safetensors")
    named = settings.model_copy(update={"weights": str(tmp_path / "given.safetensors")})
    pack_weights(named, tmp_path / WEIGHTS_FILE)
    expected = {
        name: value.bfloat16() if value.ndim > 1 else value
        for name, value in given.items()
        if not name.startswith("fc")
    }
    found = load_weights(tmp_path / WEIGHTS_FILE)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert (tmp_path / WEIGHTS_FILE).stat().st_size < 0.75 * sum(value.nbytes for value in expected.values())


def test_a_study_starts_from_its_packed_weights(tmp_path):
    given = start_state("test_resnet", "none", 5)
    save_weights({name: value for name, value in given.items() if not name.startswith("fc")}, tmp_path / WEIGHTS_FILE)
    found = packed_start("test_resnet", tmp_path / WEIGHTS_FILE, 3, tmp_path)
    head = start_state("test_resnet", "none", derive_seed(3, "init"))
    for name, value in found.items():
        assert torch.equal(value, head[name] if name.startswith("fc") else given[name].bfloat16().float()) or (
            value.ndim == 1 and torch.equal(value, given[name])
        )
    assert [path.name for path in tmp_path.iterdir()] == [WEIGHTS_FILE]


def test_damaged_weights_are_refused(tmp_path):
    (tmp_path / "cut").write_bytes(b"cut")
    save_file({"a": torch.zeros(1)}, tmp_path / "other")
    for name in ("cut", "other", "missing"):
        with pytest.raises(RunError, match=name):
            load_weights(tmp_path / name)
