"""Every verdict on a site's images."""

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clients.check.data import check_data, unreadable_dataset
from clients.check.split import try_split
from fedbus.sites.inspect_dataset import inspect_dataset
from fedbus.sites.inspection import Inspection
from fedbus.sites.prepare import prepare_sites
from simulations.local_federation import lower_limits
from tests.archives import make_class_folders, make_labels_csv
from tests.site_folders import make_site
from tests.tiny import tiny_settings

COUNTS = {"benign": 12, "malignant": 9, "normal": 6}
SETTINGS = tiny_settings(folds=3)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return make_labels_csv(tmp_path_factory.mktemp("dataset"), COUNTS)


@pytest.fixture(scope="module")
def inspection(dataset) -> Inspection:
    return inspect_dataset("labels-csv", dataset, "st-mary", 20)


def inspect(root: Path, reader: str = "class-folders") -> Inspection:
    return inspect_dataset(reader, root, "st-mary", 20)


def topics(inspection, settings=SETTINGS, steps=7, unsplittable=""):
    return {result.topic: result for result in check_data(inspection, settings, steps, unsplittable)}


def test_a_complete_dataset_passes_every_check(inspection):
    found = topics(inspection)
    assert [f.topic for f in found.values() if f.verdict != "pass"] == ["Notes"]
    assert [f.topic for f in found.values() if f.remedy] == ["Notes"]
    assert found["Files"].found == "all 27 images can be read"
    assert [found[f"Class {name}"].found for name in COUNTS] == ["12 images", "9 images", "6 images"]
    assert found["Patients"].found == "14 patients; each in one split only"  # two images each: 6 + 5 + 3
    assert found["Image size"].found == "median 48 x 40 pixels; trained at 32"
    assert found["Notes"].found == "2 notes about the dataset and its split"  # few test and few validation images


def test_unreadable_files_are_counted_and_not_named(tmp_path):
    root = make_class_folders(tmp_path, COUNTS)
    (root / "Benign" / "3.png").write_bytes(b"")
    (root / "Normal" / "0.png").write_bytes(b"not an image")
    found = topics(inspect(root), steps=None)
    assert (found["Files"].verdict, found["Files"].found) == ("fail", "2 of 27 images can't be read")
    assert found["Split"].verdict == "warn"
    assert not any(".png" in f.found + f.remedy for f in found.values())


@pytest.mark.parametrize("policy", ["mask", "plain"])
def test_a_missing_class_is_a_warning_that_names_the_policy(tmp_path, policy):
    found = topics(
        inspect(make_class_folders(tmp_path, {"benign": 6, "normal": 6})), tiny_settings(missing_classes=policy)
    )
    assert found["Class malignant"].verdict == "warn"
    assert f'missing-classes = "{policy}"' in found["Class malignant"].found
    assert found["Class normal"].verdict == "pass"


@pytest.mark.parametrize(
    ("images", "unsplittable", "verdict"),
    [(2, "", "fail"), (4, "cannot", "fail"), (4, "", "warn"), (5, "", "pass"), (5, "cannot", "pass")],
)
def test_a_class_needs_images_for_its_folds(inspection, images, unsplittable, verdict):
    counts = inspection.counts | {"normal": images}
    found = topics(replace(inspection, counts=counts), tiny_settings(folds=5), 7, unsplittable)["Class normal"]
    assert found.verdict == verdict
    assert bool(found.remedy) == (verdict != "pass")


def test_a_split_that_fails_says_why(inspection):
    found = topics(inspection, steps=None, unsplittable="normal has only 1 group(s)")["Split"]
    assert (found.verdict, found.found) == ("fail", "normal has only 1 group(s)")


def test_unknown_patients(tmp_path):
    assert topics(inspect(make_class_folders(tmp_path)))["Patients"].verdict == "warn"


def test_identical_images_and_near_duplicates_are_counted_separately(tmp_path):
    root = make_class_folders(tmp_path, COUNTS)
    shutil.copy(root / "Benign" / "0.png", root / "Benign" / "again.png")
    shutil.copy(root / "Benign" / "1.png", root / "Normal" / "contradiction.png")
    pixels = np.asarray(Image.open(root / "Benign" / "2.png")).copy()
    pixels[20, 20] ^= 1
    Image.fromarray(pixels).save(root / "Malignant" / "retouched.png")
    found = topics(inspect(root))
    assert found["Identical images"].found == "1 pair, kept in one split"
    assert found["Near-duplicates"].found == "1 pair, up to 20 of 256 bits apart, kept in one split"
    assert found["Two labels"].verdict == "warn"
    assert found["Two labels"].found == (
        "2 identical images under two labels: left out; 1 pair of near-duplicates under two labels: kept, in one split"
    )
    assert (found["Identical images"].verdict, found["Near-duplicates"].verdict) == ("pass", "pass")


@pytest.mark.parametrize(("size", "verdict"), [(40, "pass"), (41, "warn")])
def test_images_smaller_than_the_image_size(inspection, size, verdict):
    assert topics(inspection, tiny_settings(image_size=size))["Image size"].verdict == verdict


def test_a_dataset_without_a_readable_image_has_no_size(tmp_path):
    root = make_class_folders(tmp_path, COUNTS)
    for file in root.rglob("*.png"):
        file.write_bytes(b"")
    found = topics(inspect(root), steps=None)
    assert found["Files"].verdict == "fail"
    assert "Image size" not in found


def test_masks_and_notes_are_counted(inspection, tmp_path):
    root = make_class_folders(tmp_path, COUNTS)
    for i in range(2):
        Image.fromarray(np.eye(40, dtype=np.uint8) * (99 + i)).save(root / "Benign" / f"flat{i}.png")
    found = topics(inspect(root))
    assert (found["Masks"].verdict, found["Masks"].found) == (
        "warn", "2 images with as few grey values as a mask"
    )  # fmt: skip
    assert found["Notes"].found == "2 notes about the dataset and its split"
    assert "Notes" not in topics(replace(inspection, notes=()))
    noted = topics(replace(inspection, notes=("2 files of Jane Doe", "another")))
    assert (noted["Notes"].verdict, noted["Notes"].found) == ("warn", "2 notes about the dataset and its split")
    assert noted["Masks"].verdict == "pass"


def test_a_dataset_that_cannot_be_listed():
    assert unreadable_dataset("busi", True).found == "the folder can't be read as busi"
    assert unreadable_dataset("busi", False).found == "the folder of the images does not exist"
    assert unreadable_dataset("busi", True).verdict == unreadable_dataset("busi", False).verdict == "fail"


def tried(root: Path, site_root: Path, **changes):
    site = lower_limits(make_site(site_root))
    settings = tiny_settings(folds=3, **changes)
    result = try_split(site, inspect(root, "labels-csv"), settings)
    assert not list(site.path.glob(".check-*"))
    return result, site


def test_steps_of_a_round_are_those_of_the_over_sampled_rows(dataset, tmp_path):
    (steps, words), site = tried(dataset, tmp_path, batch_size=4, local_epochs=2.0)
    places = {"sites": {"st-mary": {"reader": "labels-csv", "path": str(dataset)}}, "cache": str(tmp_path / "cache")}
    joined = prepare_sites(tiny_settings(folds=3, **places), tmp_path / "joined")["st-mary"]
    most = np.bincount(joined.labels[joined.splits["train"]]).max()
    assert (steps, words) == (2 * math.ceil(3 * most / 4), "")
    decoded = np.load(next(p for p in (site.cache / "pixels").glob("*.npy") if "prints" not in p.name))
    assert decoded.shape == (27, 32, 32)  # kept for when the site joins


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"limit": 2}, "limit = 2 leaves no image of"),
        ({"sampler": "smote"}, "The sampler smote needs 6 training rows per class"),
    ],
)
def test_a_dataset_that_these_settings_can_not_split_or_balance(dataset, tmp_path, changes, why):
    (steps, words), _ = tried(dataset, tmp_path, **changes)
    assert steps is None
    assert words.startswith(why)


def test_a_dataset_that_no_settings_can_split_is_not_tried(tmp_path):
    root = make_labels_csv(tmp_path / "few", {"benign": 8, "malignant": 8, "normal": 4})
    (steps, words), site = tried(root, tmp_path)
    assert (steps, site.cache.exists()) == (None, False)
    assert words.startswith("normal has only 2 group(s)")
