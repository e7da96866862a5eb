"""`fedbus predict` gives one row per image, equal to what Pillow and timm compute, and never writes into its input."""

import csv
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.model_folder.facts import ModelFacts
from fedbus.model_folder.read import read_model
from fedbus.predict.predict import NOTHING_READABLE, predict_paths
from fedbus.system.csv_file import read_csv
from fedbus.text import NOT_A_DEVICE
from tests.archives import make_image
from tests.dicoms import write_dicom

FRAMES = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 40 grey, colour and turned images at two depths, a sequence, and files that are no images."""
    root, generator = tmp_path_factory.mktemp("input") / "images", np.random.default_rng(3)
    (root / "deep/er").mkdir(parents=True)
    for number in range(36):
        make_image(generator).save(root / f"{number:02d}.png")
    Image.merge("RGB", [make_image(generator) for _ in range(3)]).save(root / "deep/colour.png")
    make_image(generator).save(root / "deep/=HYPERLINK(1).bmp")
    make_image(generator, (50, 30)).save(root / "deep/er/wide.tif")
    make_image(generator).convert("P").save(root / "deep/er/palette.gif")
    pixels = generator.integers(0, 256, (FRAMES, 40, 60), dtype=np.uint8)
    write_dicom(root / "deep/sequence", pixels, NumberOfFrames=FRAMES)
    (root / "deep/notes.txt").write_text("not an image")
    (root / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (root / "phone.heic").write_bytes(b"unknown")
    (root / "lost.png").symlink_to("gone.png")
    (root / "again.png").symlink_to("00.png")
    os.mkfifo(root / "pipe.png")
    return root


@pytest.fixture(scope="module")
def result(trained_run: Path, images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of predictions on `images`, as the site north."""
    out = tmp_path_factory.mktemp("output") / "predictions"
    assert predict_paths(trained_run / "arms/fedavg", [images], "north", out, Console(quiet=True)) == 0
    return out


def read_rows(out: Path, name: str = "predictions.csv") -> list[dict[str, str]]:
    header, *rows = read_csv((out / name).read_text())
    return [dict(zip(header, row, strict=True)) for row in rows]


def probabilities(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[name]) for name in CLASSES] for row in rows])


def independent(folder: Path, site: str, images: list[Image.Image]) -> np.ndarray:
    """Compute calibrated probabilities with Pillow, timm and safetensors only."""
    facts = json.loads((folder / "model.json").read_text())
    model = timm.create_model(facts["architecture"], num_classes=3)
    own = load_file(folder / facts["sites"][site]["own"]["file"])
    model.load_state_dict(load_file(folder / facts["weights"]["file"]) | own, strict=False)
    grey = [image.convert("L").resize((32, 32), Image.Resampling.BILINEAR) for image in images]
    batch = torch.stack([torch.from_numpy(np.array(image)) for image in grey]).float()[:, None] / 255
    batch = (batch - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor([0.229, 0.224, 0.225])[
        :, None, None
    ]
    with torch.inference_mode():
        return (model.eval()(batch) / facts["calibration"]["temperature"]).softmax(1).numpy()


def test_rows_equal_an_independent_computation(trained_run: Path, images: Path, result: Path) -> None:
    rows = [row for row in read_rows(result) if row["file"].endswith((".png", ".bmp", ".tif"))]
    assert [row["file"] for row in rows] == sorted(
        [f"{n:02d}.png" for n in range(36)] + ["deep/=HYPERLINK(1).bmp", "deep/colour.png", "deep/er/wide.tif"]
    )
    expected = independent(trained_run / "arms/fedavg", "north", [Image.open(images / row["file"]) for row in rows])
    np.testing.assert_allclose(probabilities(rows), expected, atol=2e-6)
    assert [row["class"] for row in rows] == [CLASSES[index] for index in expected.argmax(axis=1)]
    threshold = read_model(trained_run / "arms/fedavg").facts.calibration.threshold
    answers = ["" if threshold is None else "yes" if p >= threshold else "no" for p in expected[:, 1]]
    assert [row["above_threshold"] for row in rows] == answers


def test_every_frame_of_a_sequence_is_a_row(trained_run: Path, images: Path, result: Path) -> None:
    rows = [row for row in read_rows(result) if row["file"] == "deep/sequence"]
    assert [row["frame"] for row in rows] == ["1", "2", "3"]
    pixels = np.random.default_rng(3)
    for _ in range(36 + 3 + 1):
        make_image(pixels)
    from pydicom import dcmread

    stored = dcmread(images / "deep/sequence").pixel_array
    expected = independent(trained_run / "arms/fedavg", "north", [Image.fromarray(frame) for frame in stored])
    np.testing.assert_allclose(probabilities(rows), expected, atol=2e-6)


def test_what_is_no_image_is_listed_with_a_remedy(result: Path) -> None:
    rows = read_rows(result, "unreadable.csv")
    assert [row["file"] for row in rows] == ["broken.png", "lost.png", "phone.heic", "pipe.png"]
    assert all(row["problem"] and row["remedy"] for row in rows)


def test_names_that_a_spreadsheet_would_run_are_neutralised(result: Path) -> None:
    with (result / "predictions.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(("=", "+", "@")) for cell in cells)


def test_the_run_is_described(trained_run: Path, result: Path) -> None:
    facts, rows = json.loads((result / "run.json").read_text()), read_rows(result)
    assert facts["notice"] == NOT_A_DEVICE
    assert facts["images"] == len(rows) == 43
    assert facts["unreadable"] == 4
    assert facts["model"]["as"] == "north"
    assert facts["model"]["arrays"] == "own"
    assert sum(facts["class"].values()) == 43
    assert "torch" in facts["versions"]


def listing(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_mtime_ns, path.lstat().st_size) for path in (root, *root.rglob("*"))}


def test_nothing_is_written_into_the_input(trained_run: Path, images: Path, tmp_path: Path) -> None:
    before = listing(images)
    predict_paths(trained_run / "arms/centralised", [images], None, tmp_path / "out", Console(quiet=True))
    assert listing(images) == before
    (tmp_path / "alias").symlink_to(images)
    for out in (images, images / "results", tmp_path / "alias/deep/results"):
        with pytest.raises(RunError, match="--out"):
            predict_paths(trained_run / "arms/centralised", [images], None, out, Console(quiet=True))
    assert listing(images) == before


def test_several_paths_are_named_as_written_and_read_once(trained_run: Path, images: Path, tmp_path: Path) -> None:
    paths = [images / "deep/er", images / "00.png", images / "deep/er/wide.tif"]
    predict_paths(trained_run / "arms/centralised", paths, None, tmp_path / "out", Console(quiet=True))
    expected = [images / "deep/er/palette.gif", images / "deep/er/wide.tif", images / "00.png"]
    assert [row["file"] for row in read_rows(tmp_path / "out")] == [str(path) for path in expected]


def test_fedbn_elsewhere_adapts_to_the_images_or_refuses(trained_run: Path, images: Path, tmp_path: Path) -> None:
    arm = trained_run / "arms/fedavg"
    predict_paths(arm, [images], None, tmp_path / "out", Console(quiet=True))
    facts = json.loads((tmp_path / "out/run.json").read_text())
    assert (facts["model"]["arrays"], facts["model"]["adapted_to"]) == ("adapted", 43)
    assert any("estimated from 43" in note for note in facts["notes"])
    with pytest.raises(RunError, match="north, south"):
        predict_paths(arm, [images / "deep"], None, tmp_path / "few", Console(quiet=True))
    assert not (tmp_path / "few").exists()
    with pytest.raises(RunError, match="east"):
        predict_paths(arm, [images], "east", tmp_path / "few", Console(quiet=True))


@pytest.mark.parametrize("arm", ["centralised", "fedavg"])
def test_only_unreadable_files_are_exit_code_2(trained_run: Path, tmp_path: Path, arm: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.png").write_bytes(b"")
    (tmp_path / "in/b.dcm").write_bytes(b"no DICOM")
    code = predict_paths(trained_run / "arms" / arm, [tmp_path / "in"], None, tmp_path / "out", Console(quiet=True))
    assert code == NOTHING_READABLE
    assert [row["file"] for row in read_rows(tmp_path / "out", "unreadable.csv")] == ["a.png", "b.dcm"]
    assert read_rows(tmp_path / "out") == []


def test_paths_without_images_are_refused(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/notes.txt").write_text("no image")
    for path, remedy in ((tmp_path / "in", "DICOM"), (tmp_path / "missing", "path")):
        with pytest.raises(RunError) as caught:
            predict_paths(trained_run / "arms/centralised", [path], None, tmp_path / "out", Console(quiet=True))
        assert str(path) in caught.value.problem
        assert remedy in caught.value.remedy
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_no_half_of_a_table(
    trained_run: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("fedbus.predict.predict.format_rows", fail)
    with pytest.raises(RunError, match="No space left"):
        predict_paths(trained_run / "arms/centralised", [images], None, tmp_path / "out", Console(quiet=True))
    assert list((tmp_path / "out").iterdir()) == []


def test_empty_images_and_masks_are_unlike_whatever_the_model(trained_run: Path, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for grey in (0, 77, 255):
        Image.new("L", (60, 40), grey).save(tmp_path / f"in/{grey}.png")
    mask = np.zeros((40, 60), dtype=np.uint8)
    mask[10:30, 20:40] = 255
    Image.fromarray(mask).save(tmp_path / "in/mask.png")
    predict_paths(trained_run / "arms/centralised", [tmp_path / "in"], None, tmp_path / "out", Console(quiet=True))
    assert [row["unlike_training"] for row in read_rows(tmp_path / "out")] == ["yes"] * 4


def test_an_older_model_folder_has_neither_calibration_nor_test(
    trained_run: Path, images: Path, tmp_path: Path, copy_with: Callable[..., Path]
) -> None:
    model = copy_with(trained_run / "arms/centralised", calibration=None, features=None)
    predict_paths(model, [images / "deep/er"], None, tmp_path / "out", Console(quiet=True))
    rows, facts = read_rows(tmp_path / "out"), json.loads((tmp_path / "out/run.json").read_text())
    assert {(row["above_threshold"], row["unlike_training"], row["distance"]) for row in rows} == {("", "", "")}
    assert any("not calibrated" in note for note in facts["notes"])


@pytest.fixture
def copy_with(tmp_path: Path) -> Callable[..., Path]:
    """Copy a model folder with other facts."""

    def copy(folder: Path, **changes: object) -> Path:
        import shutil

        copied = Path(shutil.copytree(folder, tmp_path / "model"))
        facts = json.loads((copied / "model.json").read_text()) | changes
        ModelFacts.model_validate(facts)
        (copied / "model.json").write_text(json.dumps(facts))
        return copied

    return copy
