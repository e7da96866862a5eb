"""`fedbus evaluate`: models of a finished comparison on datasets that took no part in their training."""

import csv
import errno
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import accuracy_score, confusion_matrix, f1_score, recall_score, roc_auc_score
from typer.testing import CliRunner

from fedbus.cli import app
from fedbus.datasets.registry import read_dataset
from fedbus.errors import FedbusError
from fedbus.evaluation.measured import measure
from fedbus.evaluation.predictions import Predictions
from fedbus.external import dataset as outside
from fedbus.external import evaluate as command
from fedbus.external import results as content
from fedbus.images.fingerprint import perceptual_hash
from fedbus.model_folder.read import read_model
from fedbus.model_folder.seen import Seen, patient_digests
from fedbus.model_folder.write import save_part, write_model
from fedbus.settings.load import build_settings
from fedbus.settings.schema import Settings
from fedbus.sites.site import open_site
from fedbus.text import NOT_A_DEVICE
from tests.archives import make_bus_bra, make_class_folders, make_labels_csv

Command = Callable[..., tuple[Path, str]]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def settings_of_tests(values: dict[str, Any], where: str) -> Settings:
    """Fewer draws of the bootstrap than usual."""
    return build_settings(values | {"bootstrap": 100}, where)


@pytest.fixture
def evaluate(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """Run the command; returns the folder that it wrote and what it printed."""

    def settings_with_cache(values: dict[str, Any], where: str) -> Settings:
        return build_settings(values | {"cache": str(cache)}, where)

    monkeypatch.setattr(outside, "build_settings", settings_with_cache)
    monkeypatch.setattr(content, "build_settings", settings_of_tests)

    def run(*words: object, out: Path | None = None) -> tuple[Path, str]:
        folder = out or tmp_path / "out"
        done = CliRunner().invoke(
            app, ["evaluate", *map(str, words), "--out", str(folder)], env={"COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        )
        if done.exception:
            raise done.exception
        return folder, done.output

    return run


@pytest.fixture(scope="module")
def south(two_site_settings: Settings) -> Path:
    return two_site_settings.sites["south"].path


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return make_class_folders(tmp_path / "new", {"benign": 16, "malignant": 12, "normal": 8}, seed=5)


def results_of(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "evaluation.json").read_text())
    return found


def changed_copy(model: Path, to: Path, **changes: object) -> Path:
    """Copy a model folder and change its facts."""
    shutil.copytree(model, to)
    write_model(to, read_model(to).facts.model_copy(update=changes))
    return to


def test_figures_are_those_that_scikit_learn_computes(evaluate: Command, trained_run: Path, south: Path) -> None:
    folder, printed = evaluate(trained_run / "arms/local-north", f"--site=south=labels-csv:{south}")
    found = Predictions.from_csv(folder / "predictions-local-north.csv")
    expected = Predictions.from_csv(trained_run / "arms/local-north/predictions.csv").select("south")
    by_path = dict(zip(found.paths.tolist(), found.probabilities, strict=True))
    np.testing.assert_array_equal([by_path[path] for path in expected.paths.tolist()], expected.probabilities)
    with (south / "labels.csv").open() as file:
        assert len(found.labels) == sum(1 for _ in csv.DictReader(file))
    metrics = results_of(folder)["arms"]["local-north"]["all"]
    predicted = found.probabilities.argmax(axis=1)
    assert metrics["accuracy"]["value"] == pytest.approx(accuracy_score(found.labels, predicted))
    assert metrics["macro_f1"]["value"] == pytest.approx(
        f1_score(found.labels, predicted, labels=[0, 1], average="macro", zero_division=0)
    )
    each = [roc_auc_score(found.labels == label, found.probabilities[:, label]) for label in (0, 1)]
    assert metrics["confusion"] == confusion_matrix(found.labels, predicted, labels=[0, 1, 2]).tolist()
    recalls = recall_score(found.labels, predicted, labels=[0, 1], average=None)
    assert [metrics["sensitivity"][name]["value"] for name in ("benign", "malignant")] == pytest.approx(recalls)
    assert min(each) - 1e-9 <= metrics["auc"]["value"] <= max(each) + 1e-9
    assert metrics["sensitivity"]["normal"] is None
    for text in (printed, (folder / "report.html").read_text()):
        assert "south has no normal images" in " ".join(text.split())
        assert NOT_A_DEVICE in text
    assert NOT_A_DEVICE in (folder / "run.json").read_text()


def test_models_are_compared_on_the_same_draws(evaluate: Command, trained_run: Path, new: Path) -> None:
    names = ("centralised", "local-south", "fedavg")
    folder, printed = evaluate(*(trained_run / "arms" / name for name in names), f"--site=new=class-folders:{new}")
    results = results_of(folder)
    runs = [Predictions.from_csv(folder / f"predictions-{name}.csv") for name in names]
    settings = settings_of_tests({}, "the test")
    first, *others = (measure([run], settings.bootstrap, settings.draw_seed) for run in runs)
    for name, other in zip(names[1:], others, strict=True):
        rows = [row for row in results["differences"] if row["reference"] == name]
        assert {row["arm"] for row in rows} == {"centralised"}
        expected = first.minus(other)
        assert {row["metric"]: row["value"] for row in rows} == {
            metric: value["value"] for metric, value in expected.items() if value
        }
        assert {row["metric"]: row["low"] for row in rows} == {
            metric: value["low"] for metric, value in expected.items() if value
        }
    fitted = read_model(trained_run / "arms/centralised").facts.calibration
    assert fitted is not None
    calibrated = replace(runs[0], probabilities=fitted.apply(runs[0].probabilities))
    for when, run in (("before", runs[0]), ("after", calibrated)):
        expected_error = measure([run], settings.bootstrap, settings.draw_seed).summary()["ece"]
        assert results["calibration"]["arms"]["centralised"]["places"]["all"][when]["ece"] == pytest.approx(
            expected_error
        )
    assert results["models"]["fedavg"]["arrays"] == "adapted"
    assert results["models"]["centralised"]["arrays"] == "shared"
    said = "statistics estimated from the tested images of new without their labels"
    assert said in " ".join(printed.split())
    page = (folder / "report.html").read_text()
    assert said in page
    assert "Centralised minus" in page
    assert {path.name for path in folder.iterdir()} >= {"evaluation.json", "report.html", "run.json"}
    digests = json.loads((folder / "run.json").read_text())["models"]
    assert list(digests) == list(names)
    assert all(len(model["digests"][0]) == 64 for model in digests.values())


def copies_of_training_images(run: Path, settings: Settings, to: Path, count: int) -> None:
    """Add training images of the first site to a dataset, compressed and enlarged."""
    site = open_site(run, "north")
    for row in site.splits["train"][:count].tolist():
        source = settings.sites["north"].path / str(site.paths[row])
        image = Image.open(source)
        image = image.resize((image.width * 3, image.height * 3), Image.Resampling.NEAREST)
        image.save(to / source.parent.name / f"copy-{row}.jpg", quality=80)


def test_compressed_copies_of_training_images_are_refused_or_left_out(
    evaluate: Command, trained_run: Path, two_site_settings: Settings, new: Path
) -> None:
    copies_of_training_images(trained_run, two_site_settings, new, 5)
    north, south = trained_run / "arms/local-north", trained_run / "arms/local-south"
    with pytest.raises(FedbusError, match="5 of 41 images of new") as caught:
        evaluate(south, north, f"--site=new=class-folders:{new}")
    assert "local-north: 5" in caught.value.problem
    assert "local-south" not in caught.value.problem
    assert "--leave-out-seen" in caught.value.remedy
    folder, printed = evaluate(south, north, f"--site=new=class-folders:{new}", "--leave-out-seen")
    results = results_of(folder)
    assert results["sites"]["new"]["left_out"]["seen in training"] == 5
    for name in ("local-south", "local-north"):
        paths = Predictions.from_csv(folder / f"predictions-{name}.csv").paths.tolist()
        assert len(paths) == 36
        assert not any("copy" in path for path in paths)
    assert "5 of 41 images of new are left out" in " ".join(printed.split())
    alone, _ = evaluate(south, f"--site=new=class-folders:{new}", out=folder.with_name("alone"))
    assert results_of(alone)["sites"]["new"]["left_out"]["seen in training"] == 0


def test_further_images_of_a_patient_of_a_published_dataset_are_refused(
    evaluate: Command, trained_run: Path, tmp_path: Path
) -> None:
    dataset = make_bus_bra(tmp_path / "bra", {"benign": 8, "malignant": 8}, seed=3)
    digests = {digest for digest in patient_digests("bus-bra", ["1", "3", "500"]) if digest}
    model = shutil.copytree(trained_run / "arms/local-north", tmp_path / "model")
    seen = save_part(
        model, "seen.safetensors", Seen(np.zeros((0, 32), dtype=np.uint8), frozenset(digests)).to_tensors()
    )
    write_model(model, read_model(model).facts.model_copy(update={"seen": seen}))
    assert {"1", "3"} <= {row.patient for row in read_dataset("bus-bra", dataset, "bus-bra").rows}
    with pytest.raises(FedbusError, match="4 more show its patients"):
        evaluate(model, f"--site=bus-bra={dataset}")
    folder, _ = evaluate(model, f"--site=bus-bra={dataset}", "--leave-out-seen")
    assert results_of(folder)["sites"]["bus-bra"]["left_out"]["further images of patients"] == {"local-north": 4}
    assert len(Predictions.from_csv(folder / "predictions-local-north.csv").labels) == 12
    assert patient_digests("labels-csv", ["1"]) == [None]


def test_a_model_is_applied_as_one_of_its_sites(evaluate: Command, trained_run: Path, new: Path) -> None:
    fedavg, tuned = trained_run / "arms/fedavg", trained_run / "arms/fedavg-tuned"
    with pytest.raises(FedbusError, match="--no-adapt") as caught:
        evaluate(fedavg, f"--site=new=class-folders:{new}", "--no-adapt")
    assert "--as north or south" in caught.value.remedy
    with pytest.raises(FedbusError, match="a model of each of its sites") as caught:
        evaluate(tuned, f"--site=new=class-folders:{new}")
    assert "--as SITE" in caught.value.remedy
    with pytest.raises(FedbusError, match="not trained at a site called 'west'") as caught:
        evaluate(fedavg, f"--site=new=class-folders:{new}", "--as=west")
    assert "north, south" in caught.value.remedy
    models = (fedavg, tuned, trained_run / "arms/centralised")
    folder, printed = evaluate(*models, f"--site=new=class-folders:{new}", "--as=north", "--no-adapt")
    arrays = {name: facts["arrays"] for name, facts in results_of(folder)["models"].items()}
    assert arrays == {"fedavg": "own", "fedavg-tuned": "own", "centralised": "shared"}
    assert "FedAvg was applied as at north" in " ".join(printed.split())


def test_models_of_several_image_sizes_are_compared(
    evaluate: Command, trained_run: Path, new: Path, tmp_path: Path
) -> None:
    small = trained_run / "arms/local-north"
    large = changed_copy(small, tmp_path / "large", image_size=48, burned_in="masked")
    folder, _ = evaluate(small, large, f"--site=new=class-folders:{new}")
    results = results_of(folder)
    assert [facts["image_size"] for facts in results["models"].values()] == [32, 48]
    both = [Predictions.from_csv(path) for path in sorted(folder.glob("predictions-*.csv"))]
    assert len(both) == 2
    assert both[0].paths.tolist() == both[1].paths.tolist()
    assert not np.array_equal(both[0].probabilities, both[1].probabilities)
    for name in ("local-north of large", "local-north of run"):
        assert name in results["models"]
    page = (folder / "report.html").read_text()
    assert "north alone, large" in page


def test_seeds_of_one_model_are_one_row(evaluate: Command, trained_run: Path, new: Path, tmp_path: Path) -> None:
    home = tmp_path / "run/arms/local-north"
    first = changed_copy(trained_run / "arms/local-north", home / "seed-0")
    second = changed_copy(trained_run / "arms/local-north", home / "seed-1", seed=1)
    folder, _ = evaluate(first, second, f"--site=new=class-folders:{new}")
    results = results_of(folder)
    assert list(results["models"]) == ["local-north"]
    assert results["arms"]["local-north"]["all"]["auc"]["spread"] == 0
    assert {path.name for path in folder.glob("*.csv")} == {
        "predictions-local-north-seed-0.csv", "predictions-local-north-seed-1.csv",
    }  # fmt: skip


def test_folders_that_cannot_be_used_are_named(evaluate: Command, trained_run: Path, new: Path, tmp_path: Path) -> None:
    model, site = trained_run / "arms/local-north", f"--site=new=class-folders:{new}"
    with pytest.raises(FedbusError, match="inside the dataset"):
        evaluate(model, site, out=new / "out")
    assert not (new / "out").exists()
    (tmp_path / "used").mkdir()
    (tmp_path / "used/notes.txt").write_text("mine")
    with pytest.raises(FedbusError, match="is not empty"):
        evaluate(model, site, out=tmp_path / "used")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FedbusError, match="is empty"):
        evaluate(model, f"--site=class-folders={tmp_path / 'empty'}")
    with pytest.raises(FedbusError, match="is not a model folder"):
        evaluate(new, site)
    damaged = Path(shutil.copytree(model, tmp_path / "damaged"))
    weights = damaged / read_model(damaged).facts.parts[0].file
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(FedbusError, match=r"\.safetensors is damaged"):
        evaluate(damaged, site)
    with pytest.raises(FedbusError, match="are the same model"):
        evaluate(
            model,
            Path(shutil.copytree(model, tmp_path / "run/arms/local-north/seed-0")),
            Path(shutil.copytree(model, tmp_path / "run/arms/local-north/seed-1")),
            site,
        )
    known = make_labels_csv(tmp_path / "known", {"benign": 6, "malignant": 6}, seed=2)
    with pytest.raises(FedbusError, match="all of them"):
        evaluate(_knows_all(model, known, tmp_path), f"--site=labels-csv={known}", "--leave-out-seen")
    assert not (tmp_path / "out").exists()


def _knows_all(model: Path, dataset: Path, tmp_path: Path) -> Path:
    """A copy of a model that has seen every image of a dataset."""
    hashes = np.array([perceptual_hash(Image.open(path).convert("L")) for path in sorted(dataset.glob("scans/*.png"))])
    copy = Path(shutil.copytree(model, tmp_path / "knows-all"))
    seen = save_part(copy, "all.safetensors", Seen(hashes, frozenset()).to_tensors())
    write_model(copy, read_model(copy).facts.model_copy(update={"seen": seen}))
    return copy


def test_a_full_disk_leaves_no_half_evaluation(
    evaluate: Command, trained_run: Path, new: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(command, "write_page", full)
    with pytest.raises(OSError, match="No space left"):
        evaluate(trained_run / "arms/local-north", f"--site=new=class-folders:{new}")
    assert not (tmp_path / "out").exists()


def test_models_without_all_fingerprints_are_evaluated_with_a_caution(
    evaluate: Command, trained_run: Path, new: Path, tmp_path: Path
) -> None:
    alone = changed_copy(trained_run / "arms/local-north", tmp_path / "alone", seen=None)
    fedavg = trained_run / "arms/fedavg"
    received = changed_copy(fedavg, tmp_path / "received", seen_in_part=True)
    models = (alone, received, trained_run / "arms/centralised")
    folder, printed = evaluate(*models, f"--site=new=class-folders:{new}")
    assert results_of(folder)["sites"]["new"]["not checked"] == ["local-north", "fedavg"]
    assert "could not be checked completely" in " ".join(printed.split())


def test_an_evaluation_is_stored_with_the_run_of_the_model(trained_run: Path, tmp_path: Path) -> None:
    assert command.default_out(trained_run / "arms/fedavg", "new").parent == trained_run / "evaluations"
    assert command.default_out(tmp_path / "bundle", "new").parent == Path("evaluations")
