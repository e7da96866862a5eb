"""What `fedbus check` finds in one dataset, and how it is printed and written."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fedbus.errors import ArchiveError
from fedbus.reports.archive_check import render
from fedbus.sites.inspect_dataset import inspect_dataset
from tests.archives import (
    make_bus_bra,
    make_bus_uclm,
    make_busi,
    make_class_folders,
    make_image,
)


def shown(inspection, width=200):
    console = Console(file=io.StringIO(), width=width)
    console.print(render(inspection))
    return console.file.getvalue()


def test_a_usable_dataset(tmp_path):
    found = inspect_dataset(
        "bus-uclm", make_bus_uclm(tmp_path, {"benign": 12, "malignant": 12, "normal": 12}), "south", 20
    )

    assert found.usable
    assert found.unsplittable is None
    assert found.counts == {"benign": 12, "malignant": 12, "normal": 12}
    assert found.census == {"benign": 174, "malignant": 90, "normal": 419}
    assert found.patients == 18
    assert found.images_per_patient == (2, 2)
    assert found.widths == (48, 48, 48)
    assert found.heights == (40, 40, 40)
    assert found.modes == {"L": 36}
    assert found.duplicates == ()


def test_a_dataset_with_too_few_patients_to_split_cannot_be_used(tmp_path):
    found = inspect_dataset("bus-uclm", make_bus_uclm(tmp_path), "south", 20)
    assert not found.unreadable
    assert not found.usable
    assert "normal has only 2 group(s)" in found.unsplittable
    assert "normal has only 2 group(s)" in shown(found)
    assert found.to_json()["usable"] is False


def test_sizes_and_modes(tmp_path):
    make_class_folders(tmp_path, {"benign": 2, "malignant": 1})
    make_image(np.random.default_rng(9), (100, 30)).convert("RGBA").save(tmp_path / "Benign" / "9.png")
    found = inspect_dataset("class-folders", tmp_path, "x", 20)
    assert found.widths == (48, 48, 100)
    assert found.heights == (30, 40, 40)
    assert found.modes == {"L": 3, "RGBA": 1}
    assert found.census is None
    assert found.patients is None


def test_the_builders_make_no_near_duplicates(tmp_path):
    found = inspect_dataset("class-folders", make_class_folders(tmp_path, {"benign": 30, "normal": 30}), "x", 80)
    assert found.duplicates == ()


def test_duplicates_are_listed_by_kind_and_label(tmp_path):
    benign = make_class_folders(tmp_path) / "Benign"
    shutil.copy(benign / "0.png", benign / "copy.png")
    with Image.open(benign / "2.png") as image:  # other bytes and another mode, equal pixels
        image.convert("RGB").save(tmp_path / "Malignant" / "recoloured.png")
    pixels = np.asarray(Image.open(benign / "1.png")).copy()
    pixels[20, 20] ^= 1  # too little to move the hash, yet not the same image
    Image.fromarray(pixels).save(tmp_path / "Normal" / "retouched.png")

    found = inspect_dataset("class-folders", tmp_path, "x", 20)

    assert [(c.first, c.second) for c in found.identical_pairs] == [
        ("Benign/0.png", "Benign/copy.png"),
        ("Benign/2.png", "Malignant/recoloured.png"),
    ]
    assert [(c.first, c.second, c.bits) for c in found.near_duplicates] == [("Benign/1.png", "Normal/retouched.png", 0)]
    assert [(c.labels, c.identical) for c in found.conflicting_pairs] == [
        (("benign", "malignant"), True),
        (("benign", "normal"), False),
    ]
    assert found.usable
    assert "Duplicates under two labels: 2 pairs" in shown(found)


def test_the_threshold_decides_what_is_a_near_duplicate(tmp_path):
    root = make_class_folders(tmp_path)
    pixels = np.asarray(Image.open(root / "Benign" / "0.png")).copy()
    pixels[:20, :12] = 255 - pixels[:20, :12]
    Image.fromarray(pixels).save(root / "Benign" / "partly.png")

    (pair,) = inspect_dataset("class-folders", root, "x", 60).near_duplicates

    assert (pair.first, pair.second) == ("Benign/0.png", "Benign/partly.png")
    assert 0 < pair.bits <= 60
    assert inspect_dataset("class-folders", root, "x", pair.bits).near_duplicates == (pair,)
    assert inspect_dataset("class-folders", root, "x", pair.bits - 1).near_duplicates == ()


def test_all_unreadable_images_are_listed(tmp_path):
    benign = make_class_folders(tmp_path) / "Benign"
    (benign / "0.png").write_bytes(b"")
    (benign / "1.png").write_bytes((benign / "1.png").read_bytes()[:500])
    Image.fromarray(np.full((9, 9), 40_000, dtype=np.uint16)).save(benign / "2.png")

    found = inspect_dataset("class-folders", tmp_path, "x", 20)

    assert not found.usable
    assert [each.path for each in found.unreadable] == ["Benign/0.png", "Benign/1.png", "Benign/2.png"]
    assert found.unreadable[0].reason == "is an empty file"
    assert "can't be decoded" in found.unreadable[1].reason
    assert "more than 8 bits" in found.unreadable[2].reason
    assert "8-bit" in found.unreadable[2].remedy
    assert sum(found.modes.values()) == 12
    text = shown(found)
    assert "can't be used yet: 3 of 15 images can't be read" in text
    assert all(name in text for name in ("Benign/0.png", "Benign/1.png", "Benign/2.png"))


def test_a_dataset_without_a_readable_image(tmp_path):
    for path in make_class_folders(tmp_path).rglob("*.png"):
        path.write_bytes(b"")
    found = inspect_dataset("class-folders", tmp_path, "x", 20)
    assert not found.usable
    assert found.widths is None
    assert len(found.unreadable) == 15
    assert json.dumps(found.to_json(), allow_nan=False)
    assert "15 of 15 images can't be read" in shown(found)


def test_images_that_look_like_masks_are_noted(tmp_path):
    root = make_class_folders(tmp_path)
    Image.fromarray(np.eye(40, dtype=np.uint8) * 255).save(root / "Normal" / "outline.png")
    found = inspect_dataset("class-folders", root, "x", 20)
    assert found.notes[0] == "1 image(s) with the grey values of a mask: Normal/outline.png"
    assert found.usable


def test_progress_counts_every_image(tmp_path):
    seen, announced = [], []

    def progress(site, total):
        announced.append((site, total))
        return seen.append

    inspect_dataset("bus-bra", make_bus_bra(tmp_path), "rio", 20, progress)
    assert announced == [("rio", 11)]
    assert sum(seen) == 11


def test_json_contains_everything(tmp_path):
    root = make_busi(tmp_path)
    shutil.copy(
        root / "Dataset_BUSI_with_GT/benign/benign (1).png",
        root / "Dataset_BUSI_with_GT/normal/normal (9).png",
    )
    report = json.loads(json.dumps(inspect_dataset("busi", root, "north", 20).to_json(), allow_nan=False))
    pair = ["Dataset_BUSI_with_GT/benign/benign (1).png", "Dataset_BUSI_with_GT/normal/normal (9).png"]
    assert report["site"] == "north"
    assert report["usable"] is True
    assert report["counts"] == {"benign": 6, "malignant": 5, "normal": 5}
    assert report["published"] == {"benign": 437, "malignant": 210, "normal": 133}
    assert report["patients"] is None
    assert report["width"] == {"minimum": 48, "median": 48, "maximum": 48}
    assert report["identical_pairs"] == [pair]
    assert report["conflicting_pairs"] == [
        {"files": pair, "labels": ["benign", "normal"], "bits": 0, "identical": True}
    ]
    assert "10.1016/j.dib.2019.104863" in report["citation"]


def test_a_dataset_that_can_not_be_read_raises(tmp_path):
    with pytest.raises(ArchiveError, match="is empty"):
        inspect_dataset("busi", tmp_path, "x", 20)


def test_real_busi_has_one_image_under_two_labels(shared_data):
    found = inspect_dataset("busi", shared_data / "BUSI", "busi", 20)
    folder = "Dataset_BUSI_with_GT"
    assert [(c.first, c.second) for c in found.identical_pairs] == [
        (f"{folder}/benign/benign (433).png", f"{folder}/malignant/malignant (145).png")
    ]
    assert found.conflicting_pairs[0] == found.identical_pairs[0]
    assert len(found.conflicting_pairs) == 8
    assert found.usable
    assert "benign (433).png" in shown(found, width=80)


def test_real_bus_uclm_duplicates_and_modes(shared_data):
    found = inspect_dataset("bus-uclm", shared_data / "BUS-UCLM", "uclm", 20)
    twins = {(c.first[7:15], c.second[7:15]) for c in found.identical_pairs}
    assert twins == {
        ("CHCO_000", "CHVI_005"),
        ("CHCO_001", "CHVI_008"),
        ("CHCO_002", "CHVI_009"),
        ("CHCO_003", "CHVI_013"),
    }
    assert found.modes["RGBA"] == 13
    assert found.patients == 37
    assert found.usable
