"""An exported bundle gives PyTorch's probabilities without FedBUS, and is a model folder itself."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from rich.console import Console

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.export.export import export_model
from fedbus.export.network import load_network
from fedbus.export.parity import LIMIT, compare
from fedbus.model_folder.apply import open_model
from fedbus.model_folder.read import read_model
from fedbus.predict.predict import predict_paths
from fedbus.sites.site import open_site
from tests.archives import make_image

FORBIDDEN = ("torch", "timm", "fedbus", "onnx", "pydicom", "scipy")


@pytest.fixture(scope="module")
def bundle(trained_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model of the site north as an ONNX bundle."""
    out = tmp_path_factory.mktemp("export") / "bundle"
    export_model(trained_run / "arms/fedavg", "onnx", "north", out)
    return out


def expected_probabilities(trained_run: Path, images: np.ndarray) -> np.ndarray:
    folder = read_model(trained_run / "arms/fedavg")
    return folder.facts.calibration.apply(open_model(folder, "north").predict(images))


def test_parity_is_measured_on_test_images_of_the_run(bundle: Path) -> None:
    parity = json.loads((bundle / "parity.json").read_text())
    assert parity["source"] == "test images of the run"
    assert parity["images"] > 10
    assert 0 <= parity["largest_difference"] <= LIMIT == parity["limit"]


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_file_takes_batches_of_any_size(trained_run: Path, bundle: Path, count: int) -> None:
    images = np.array(open_site(trained_run, "north").pixels[:count])
    facts = json.loads((bundle / "preprocessing.json").read_text())
    given = (images[:, None] / 255 - np.reshape(facts["mean"], (3, 1, 1))) / np.reshape(facts["std"], (3, 1, 1))
    session = onnxruntime.InferenceSession(bundle / facts["model"])
    (found,) = session.run([facts["output"]["name"]], {facts["input"]["name"]: given.astype(np.float32)})
    np.testing.assert_allclose(found, expected_probabilities(trained_run, images), atol=1e-5)


def test_a_bundle_is_a_model_folder(trained_run: Path, bundle: Path, tmp_path: Path) -> None:
    folder, original = read_model(bundle), read_model(trained_run / "arms/fedavg")
    assert folder.facts.complete
    assert list(folder.facts.sites) == ["north"]
    assert folder.facts.calibration == original.facts.calibration
    images = np.array(open_site(trained_run, "south").pixels)
    np.testing.assert_array_equal(open_model(folder).predict(images), open_model(original, "north").predict(images))
    (tmp_path / "in").mkdir()
    make_image(np.random.default_rng(0)).save(tmp_path / "in/a.png")
    rows = []
    for model, site in ((bundle, None), (trained_run / "arms/fedavg", "north")):
        predict_paths(model, [tmp_path / "in"], site, tmp_path / f"out-{site}", Console(quiet=True))
        rows.append((tmp_path / f"out-{site}/predictions.csv").read_text())
    assert rows[0] == rows[1]


def test_preprocessing_names_all_that_the_network_needs(trained_run: Path, bundle: Path) -> None:
    facts = json.loads((bundle / "preprocessing.json").read_text())
    calibration = read_model(trained_run / "arms/fedavg").facts.calibration
    assert facts["classes"] == list(CLASSES)
    assert (facts["size"], facts["burned_in_annotations"]) == (32, "kept")
    assert (facts["temperature"], facts["threshold"]) == (calibration.temperature, calibration.threshold)
    assert facts["input"]["shape"] == ["batch", 3, 32, 32]


def test_the_example_runs_without_torch_and_fedbus(trained_run: Path, bundle: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(1)
    colour = Image.merge("RGB", [make_image(generator) for _ in range(3)])
    make_image(generator).save(tmp_path / "grey.png")
    colour.save(tmp_path / "colour.png")
    guard = f"import sys, runpy; sys.modules.update(dict.fromkeys({FORBIDDEN!r})); sys.argv = sys.argv[1:]"
    command = [sys.executable, "-I", "-c", f"{guard}; runpy.run_path(sys.argv[0], run_name='__main__')"]
    (tmp_path / "notes.txt").write_text("no image")
    names = ["grey.png", "colour.png"]
    ran = subprocess.run(
        [*command, str(bundle / "predict.py"), "notes.txt", *names],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.returncode == 0, ran.stderr
    assert "notes.txt can't be read" in ran.stderr
    *lines, notice = ran.stdout.strip().splitlines()
    assert "not a medical device" in notice
    found = [list(json.loads(line.partition(" ")[2].replace("'", '"')).values()) for line in lines]
    small = [
        np.array(Image.open(tmp_path / name).convert("L").resize((32, 32), Image.Resampling.BILINEAR)) for name in names
    ]
    np.testing.assert_allclose(found, expected_probabilities(trained_run, np.stack(small)), atol=1e-5)
    assert len((bundle / "predict.py").read_text().splitlines()) <= 26


def test_torchscript_gives_the_same(trained_run: Path, tmp_path: Path) -> None:
    parity = export_model(trained_run / "arms/centralised", "torchscript", None, tmp_path / "bundle")
    assert parity.largest_difference <= LIMIT
    folder, images = read_model(tmp_path / "bundle"), np.array(open_site(trained_run, "south").pixels[:5])
    given = (torch.from_numpy(images)[:, None].float() / 255 - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / (
        torch.tensor([0.229, 0.224, 0.225])[:, None, None]
    )
    found = load_network("torchscript", tmp_path / "bundle/model.pt")(given.numpy())
    expected = folder.facts.calibration.apply(open_model(folder).predict(images))
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_incomplete_model_needs_a_site(trained_run: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        export_model(trained_run / "arms/fedavg", "torchscript", None, tmp_path / "bundle")
    assert "--as" in caught.value.remedy
    assert not (tmp_path / "bundle").exists()


def test_a_folder_with_files_is_not_overwritten(bundle: Path, trained_run: Path) -> None:
    with pytest.raises(RunError, match="not empty"):
        export_model(trained_run / "arms/fedavg", "torchscript", "north", bundle)


def test_a_file_that_differs_is_refused_and_nothing_is_left(
    trained_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    even = lambda images: np.full((len(images), 3), 1 / 3)  # noqa: E731
    monkeypatch.setattr("fedbus.export.export.load_network", lambda *_: even)
    with pytest.raises(RunError, match="differs from PyTorch"):
        export_model(trained_run / "arms/fedavg", "torchscript", "north", tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_differences_are_absolute_and_nan_is_one() -> None:
    images = np.zeros((3, 8, 8), dtype=np.uint8)
    even = lambda given: np.full((len(given), 3), 1 / 3)  # noqa: E731
    assert compare(even, lambda given: even(given) - 5e-5, images, "zeros").largest_difference == pytest.approx(5e-5)
    for wrong in (lambda given: even(given) - 2e-4, lambda given: even(given) * np.nan):
        with pytest.raises(RunError):
            compare(wrong, even, images, "zeros")


def test_without_the_run_images_are_given_or_drawn(trained_run: Path, tmp_path: Path) -> None:
    import shutil

    model = Path(shutil.copytree(trained_run / "arms/centralised", tmp_path / "model"))
    assert "phantoms" in export_model(model, "torchscript", None, tmp_path / "drawn").source
    (tmp_path / "in").mkdir()
    make_image(np.random.default_rng(0)).save(tmp_path / "in/a.png")
    parity = export_model(model, "torchscript", None, tmp_path / "given", [tmp_path / "in"])
    assert (parity.images, parity.source) == (1, "given images")
