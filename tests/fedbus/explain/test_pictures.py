"""`fedbus explain MODEL PICTURE...`: pictures, maps and JSON; never a file beside the images."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fedbus.classes import CLASSES
from fedbus.errors import ExplainError, FedbusError, ImageError, RunError
from fedbus.explain.overlay import MARGIN, blend, draw_overlay, scale_map
from fedbus.explain.pictures import EXPLANATIONS_FILE, explain_pictures
from fedbus.images.decode import decode_image, resize_image
from fedbus.model_folder.apply import open_model
from fedbus.model_folder.read import read_model
from fedbus.text import NOT_A_DEVICE
from tests.dicoms import write_dicom

QUIET = Console(quiet=True)


@pytest.fixture
def scans(tmp_path: Path) -> list[Path]:
    """A PNG, and the third frame of a DICOM file."""
    random = np.random.default_rng(0)
    folder = tmp_path / "scans"
    folder.mkdir()
    Image.fromarray(random.integers(0, 256, (90, 120), dtype=np.uint8)).save(folder / "a b.png")
    write_dicom(folder / "scan.dcm", random.integers(0, 256, (4, 60, 80), dtype=np.uint8), NumberOfFrames=4)
    return [folder / "a b.png", Path(f"{folder / 'scan.dcm'}#3")]


def test_each_image_gets_a_picture_a_map_and_its_calibrated_prediction(
    trained_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    out, model = tmp_path / "out", trained_run / "arms/fedavg"
    before = {path: path.read_bytes() for path in scans[0].parent.iterdir()}
    content = json.loads(explain_pictures(model, scans, "south", out, QUIET).read_text())

    assert {path: path.read_bytes() for path in scans[0].parent.iterdir()} == before
    assert content["not_a_device"] == NOT_A_DEVICE
    assert (content["as"], content["layer"], content["positions"]) == ("south", "layer3", [2, 2])
    seen = np.stack([resize_image(decode_image(path), 32) for path in scans])
    applied = open_model(read_model(model), "south")
    expected = applied.predict(seen)
    for row, path, probabilities in zip(content["images"], scans, expected, strict=True):
        assert row["file"] == str(path)
        assert row["class"] == CLASSES[probabilities.argmax()]
        assert max(row["probabilities"], key=row["probabilities"].get) == row["class"]
        assert sum(row["probabilities"].values()) == pytest.approx(1)
        found = np.load(out / row["map"])
        assert (found.shape, found.dtype) == ((32, 32), np.float32)
        assert found.min() >= 0
        assert found.max() == pytest.approx(1) or row["largest"] == 0
        with Image.open(out / row["picture"]) as picture:
            assert (picture.format, picture.mode) == ("PNG", "RGB")
    assert {path.name for path in out.iterdir()} == {
        "001-a_b.png", "001-a_b.npy", "002-scan-3.png", "002-scan-3.npy", EXPLANATIONS_FILE,
    }  # fmt: skip


def test_images_are_side_by_side_at_one_scale() -> None:
    image = Image.fromarray(np.full((100, 400), 90, dtype=np.uint8))
    bare = draw_overlay(image, np.zeros((2, 2), dtype=np.float32), [])
    assert bare.width == 2 * MARGIN + 2 * 400 + 8
    pixels = np.asarray(bare)
    assert (pixels[MARGIN : MARGIN + 100, MARGIN : MARGIN + 400] == 90).all()
    assert (pixels[MARGIN : MARGIN + 100, MARGIN + 408 : MARGIN + 808] == 90).all()
    assert draw_overlay(image, np.zeros((2, 2), dtype=np.float32), [NOT_A_DEVICE]).height > bare.height
    small = draw_overlay(Image.new("L", (8, 16)), np.ones((1, 1), dtype=np.float32), [])
    assert small.width == 2 * MARGIN + 320 + 8  # 160 x 320 each
    large = draw_overlay(Image.new("L", (3000, 10)), np.ones((1, 1), dtype=np.float32), [])
    assert large.width == 2 * MARGIN + 2 * 640 + 8


def test_where_nothing_speaks_for_the_class_the_image_stays_grey() -> None:
    grey = np.full((8, 8), 100, dtype=np.uint8)
    ramp = np.tile(np.linspace(0, 3, 8, dtype=np.float32), (8, 1))
    shown = blend(grey, ramp).astype(int)
    assert (shown[:, 0] == 100).all()
    spread = shown.max(axis=2) - shown.min(axis=2)
    assert (np.diff(spread[0][4:]) > 0).all()
    assert (blend(grey, np.zeros((2, 2), dtype=np.float32)) == 100).all()
    assert scale_map(ramp).max() == 1


def refused(model: Path, pictures: list[Path], site: str | None, out: Path) -> FedbusError:
    """The error; nothing may be written."""
    with pytest.raises(FedbusError) as caught:
        explain_pictures(model, pictures, site, out, QUIET)
    assert not out.exists() or not list(out.glob("*.png"))
    return caught.value


def test_what_cannot_be_explained_is_named_and_nothing_is_written(
    trained_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    model, out = trained_run / "arms/fedavg", tmp_path / "out"
    (tmp_path / "broken").mkdir()
    broken = tmp_path / "broken/broken.png"
    broken.write_bytes(scans[0].read_bytes()[:90])
    error = refused(model, [scans[0], broken], "south", out)
    assert isinstance(error, ImageError)
    assert "broken.png" in error.problem
    assert not out.exists()
    assert "north, south" in refused(model, scans, "west", out).remedy
    assert "north, south" in refused(model, scans, None, out).problem  # FedBN, and too few images to adapt to
    assert "*.png" in refused(model, [scans[0].parent], "south", out).remedy
    assert "a b.png" in refused(model, scans, "south", scans[0].parent / "results").problem
    assert not (scans[0].parent / "results").exists()
    out.mkdir()
    (out / "mine.txt").touch()
    assert "not empty" in refused(model, scans, "south", out).problem
    assert isinstance(refused(trained_run, scans, "south", tmp_path / "other"), RunError)


def test_a_backbone_without_maps_is_refused_before_anything_is_read(
    trained_run: Path, scans: list[Path], tmp_path: Path
) -> None:
    model = Path(shutil.copytree(trained_run / "arms/fedavg", tmp_path / "model"))
    facts = json.loads((model / "model.json").read_text()) | {"architecture": "levit_128s", "image_size": 224}
    (model / "model.json").write_text(json.dumps(facts))
    error = refused(model, scans, "south", tmp_path / "out")
    assert isinstance(error, ExplainError)
    assert "levit_128s" in error.problem
