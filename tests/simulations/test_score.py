"""`fedbus score`: a comparison of two sites, then its models at a third one."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from fedbus.classes import CLASSES
from fedbus.cli import app
from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.errors import FedbusError
from fedbus.evaluation.metrics import auc
from fedbus.evaluation.predict import predict
from fedbus.evaluation.predictions import Predictions
from fedbus.models.build import place_model
from fedbus.models.state import set_state
from fedbus.runs.folder import read_settings
from fedbus.runs.lock import hold_folder
from fedbus.settings.load import build_settings
from fedbus.settings.schema import SiteSource
from fedbus.sites.unseen_site import prepare_unseen_site
from simulations.arm import list_arms
from simulations.unseen_models import handed_on_state
from tests.archives import make_class_folders

SETTINGS = {
    "image-size": 32, "model": "test_resnet", "weights": "none", "batch-size": 8, "rounds": 3, "folds": 3,
    "bootstrap": 20, "learning-rate": 0.01, "device": "cpu", "engine": "in-process", "batch-norm": "local",
    "keep": "last", "precision": "float32", "arms": "local,centralised,fedavg,fedavg-blended,fedprox",
}  # fmt: skip

SCORED = ["local-a", "local-b", "centralised", "fedavg"]
COUNTS = {"benign": 8, "malignant": 6, "normal": 5}


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = write_phantoms(tmp_path_factory.mktemp("data") / "phantoms", 40, 3)
    return dict(zip("abc", folders.values(), strict=True))


@pytest.fixture(scope="module")
def run(phantoms: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two sites, in which FedProx is not finished."""
    out = tmp_path_factory.mktemp("runs") / "run"
    sets = [f"--set={key}={value}" for key, value in (SETTINGS | {"cache": out.parent / "cache"}).items()]
    sites = [f"--site={name}=phantoms:{phantoms[name]}" for name in "ab"]
    done = CliRunner().invoke(app, ["compare", *sites, *sets, "--out", str(out)])
    assert done.exit_code == 0, done.output
    (out / "arms" / "fedprox" / "done.json").unlink()
    return out


@pytest.fixture(scope="module")
def scored(run: Path, phantoms: dict[str, Path]) -> tuple[dict, Path, str]:
    done = CliRunner().invoke(app, ["score", str(run), f"--site=c=phantoms:{phantoms['c']}"], env={"COLUMNS": "120"})
    assert done.exit_code == 0, done.output
    folder = run / "scores" / "c"
    return json.loads((folder / "scores.json").read_text()), folder, done.output


def refused(*words: object) -> str:
    done = CliRunner().invoke(app, ["score", *map(str, words)])
    assert isinstance(done.exception, FedbusError), done.output
    return str(done.exception)


def expected_state(run: Path, arm: str) -> dict[str, torch.Tensor]:
    """The weights of an arm; of a federated one with the mean of both sites' BatchNorm after the last round."""
    state = load_file(run / "arms" / arm / "final.safetensors")
    if arm == "fedavg":
        own = [load_file(run / "memory/fedavg-seed-0" / site / "batch-norm-00003.safetensors") for site in "ab"]
        assert {name.rpartition(".")[2] for name in own[0]} == {"weight", "bias", "running_mean", "running_var"}
        state |= {name: (own[0][name] + own[1][name]) / 2 for name in own[0]}
    return state


@pytest.mark.parametrize("arm", ["local-a", "centralised", "fedavg"])
def test_predictions_are_those_of_the_loaded_weights_on_all_images(arm, run, scored, phantoms):
    settings = read_settings(run)
    unseen = prepare_unseen_site("c", SiteSource(reader="phantoms", path=phantoms["c"]), run, settings)
    model = place_model(settings.model, torch.device("cpu"))
    set_state(model, expected_state(run, arm))
    found = Predictions.from_csv(scored[1] / f"predictions-{arm}.csv")
    classes = json.loads((run / "arms" / arm / "done.json").read_text())["classes"]
    present = None if classes is None else torch.tensor(classes)
    expected = predict(model, unseen.site.pixels, settings, present)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-6)
    with (phantoms["c"] / "labels.csv").open() as file:
        labels = {row["file"]: row["label"] for row in csv.DictReader(file)}
    assert {path: CLASSES[label] for path, label in zip(found.paths.tolist(), found.labels, strict=True)} == labels


def test_figures_and_differences_are_those_of_the_predictions(scored):
    results, folder, _ = scored
    assert list(results["arms"]) == SCORED
    values = {}
    for arm in SCORED:
        for kind, suffix in (("as-trained", ""), ("recalibrated", "-recalibrated")):
            found = Predictions.from_csv(folder / f"predictions-{arm}{suffix}.csv")
            once = np.ones((1, len(found.labels)), dtype=np.uint8)
            metrics = results["arms"][arm][kind]
            values[arm, kind] = float(auc(found.labels, found.probabilities, once)[0])
            assert metrics["auc"]["value"] == pytest.approx(values[arm, kind])
            right = found.probabilities.argmax(axis=1) == found.labels
            assert metrics["accuracy"]["value"] == pytest.approx(right.mean())
            for metric in ("auc", "accuracy", "macro_f1"):
                assert metrics[metric]["low"] <= metrics[metric]["high"]
    differences = {(d["reference"], d["batch_norm"]): d for d in results["differences"] if d["metric"] == "auc"}
    assert {reference for reference, _ in differences} == {"centralised", "local-a", "local-b"}
    for (reference, kind), found in differences.items():
        assert found["arm"] == "fedavg"
        assert found["value"] == pytest.approx(values["fedavg", kind] - values[reference, kind])
        assert found["low"] <= found["high"]


def test_skipped_arms_are_named_and_the_json_names_no_file(scored, phantoms):
    results, folder, output = scored
    assert results["skipped"].keys() == {"fedavg-blended", "fedprox"}
    text = " ".join(output.split())
    assert "fedprox is not scored: it is not finished." in text
    assert "statistics are those of the tested images themselves, without labels" in text
    assert "mean of sites" in text
    assert results["mean_of_sites"] == ["fedavg"]
    assert sum(results["site"]["tested"].values()) == results["site"]["images"] == 40
    content = (folder / "scores.json").read_text()
    assert str(phantoms["c"]) not in content
    assert ".png" not in content


def test_no_label_influences_recalibrated_predictions(run, tmp_path):
    """Rotate the classes of all folders: the same images, each under another label and another name."""
    names = [label.capitalize() for label in COUNTS]
    one = make_class_folders(tmp_path / "one", {"benign": 60, "malignant": 50, "normal": 40}, seed=5)  # two batches
    for name, other in zip(names, [*names[1:], names[0]], strict=True):
        shutil.copytree(one / name, tmp_path / "other" / other)
    images, found = {}, {}
    for folder in ("one", "other"):
        out = tmp_path / "out" / folder
        site = f"new=class-folders:{tmp_path / folder}"
        done = CliRunner().invoke(app, ["score", str(run), "--site", site, "--out", str(out)])
        assert done.exit_code == 0, done.output
        predictions = Predictions.from_csv(out / "predictions-fedavg-recalibrated.csv")
        images[folder] = [(tmp_path / folder / path).read_bytes() for path in predictions.paths.tolist()]
        found[folder] = dict(zip(images[folder], predictions.probabilities, strict=True))
    assert images["one"] != images["other"]
    assert found["one"].keys() == found["other"].keys()
    for image, probabilities in found["one"].items():
        np.testing.assert_allclose(probabilities, found["other"][image], atol=1e-6)


def test_images_that_the_run_has_too_are_left_out_and_counted(run, phantoms, tmp_path):
    folder = make_class_folders(tmp_path / "new", COUNTS, seed=6)
    for i, image in enumerate(sorted((phantoms["a"] / "images").iterdir())[:2]):
        shutil.copy(image, folder / "Benign" / f"copy-{i}.png")
    done = CliRunner().invoke(
        app, ["score", str(run), f"--site=class-folders={folder}", "--out", str(tmp_path / "out")]
    )
    assert done.exit_code == 0, done.output
    results = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert results["site"]["left_out"] == {"conflicting_labels": 0, "in_run": {"a": 2}}
    assert results["site"]["tested"] == COUNTS
    assert "2 images of class-folders are left out: a has near-duplicates" in done.output
    paths = Predictions.from_csv(tmp_path / "out" / "predictions-fedavg.csv").paths.tolist()
    assert not any("copy" in path for path in paths)


def test_bad_input_is_refused_before_anything_is_written(run, phantoms, tmp_path):
    site, out = f"--site=d=phantoms:{phantoms['c']}", f"--out={tmp_path / 'out'}"
    assert "contains no run" in refused(tmp_path, site, out)
    assert "already has a site called a" in refused(run, f"--site=a=phantoms:{phantoms['c']}", out)
    assert "does not exist" in refused(run, f"--site=busi={tmp_path / 'nowhere'}", out)
    assert "can't name a folder" in refused(run, f"--site=../d=phantoms:{phantoms['c']}", out)
    cut = Path(shutil.copytree(run, tmp_path / "cut"))
    for path in (cut / "arms").rglob("done.json"):
        path.unlink()
    assert "no finished arm" in refused(cut, site, out)
    assert not (tmp_path / "out").exists()


def test_lost_batch_norm_arrays_are_reported(run, phantoms, tmp_path):
    cut = Path(shutil.copytree(run, tmp_path / "cut"))
    shutil.rmtree(cut / "memory" / "fedavg-seed-0")
    error = refused(cut, f"--site=c=phantoms:{phantoms['c']}", f"--out={tmp_path / 'out'}")
    assert "BatchNorm arrays that the sites kept for fedavg" in error


def test_an_arm_that_averages_batch_norm_hands_on_its_own(run):
    settings = build_settings(read_settings(run).as_dict() | {"batch-norm": "average"}, "the tests")
    arm = next(arm for arm in list_arms(settings, run) if arm.name == "fedavg")
    shared = load_file(run / "arms" / "fedavg" / "final.safetensors")
    found = handed_on_state(arm, settings, ["a", "b"])
    assert all(torch.equal(found[name], shared[name]) for name in shared)


def test_a_folder_that_another_process_uses_is_refused(run, phantoms, tmp_path):
    with hold_folder(tmp_path / "scores"):
        assert "is in use" in refused(run, f"--site=c=phantoms:{phantoms['c']}", "--out", tmp_path / "scores")
