"""A site's own images, one folder per class."""

import numpy as np
import pytest

from fedbus.datasets.readers import class_folders
from fedbus.errors import ArchiveError
from tests.archives import make_class_folders, make_image


def add(root, *names):
    generator = np.random.default_rng(1)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        make_image(generator).save(root / name)


def test_reads_folders_in_any_case_and_nested(tmp_path):
    make_class_folders(tmp_path)
    add(tmp_path, "Benign/2021/a.jpg", "Benign/2021/b.JPEG", "MALIGNANT/c.bmp", "Normal/d.tif")
    (tmp_path / "Benign" / "readme.txt").write_text("not an image")

    manifest = class_folders.read(tmp_path, "mine")

    assert manifest.counts == {"benign": 8, "malignant": 6, "normal": 5}
    assert {row.patient for row in manifest.rows} == {None}
    assert manifest.notes == ()


@pytest.mark.parametrize(
    "name",
    ["Benign/0_mask.png", "Benign/masks/0.png", "masks/0.png", "Normal/mask_1.png", "Benign/0_Mask_1.png"],
)
def test_masks_are_refused(tmp_path, name):
    make_class_folders(tmp_path)
    add(tmp_path, name)
    with pytest.raises(ArchiveError, match="1 masks among its images") as caught:
        class_folders.read(tmp_path, "x")
    assert name in caught.value.problem
    assert "Move the masks" in caught.value.remedy


def test_names_that_only_resemble_masks_pass(tmp_path):
    make_class_folders(tmp_path)
    add(tmp_path, "Benign/unmasked.png", "Benign/maskell-1.png")
    assert class_folders.read(tmp_path, "x").counts["benign"] == 8


def test_unknown_folders_with_images_are_all_named(tmp_path):
    make_class_folders(tmp_path)
    add(tmp_path, "cysts/a.png", "Unsure/b.png")
    (tmp_path / "documents").mkdir()
    with pytest.raises(ArchiveError, match="not a class: Unsure, cysts") as caught:
        class_folders.read(tmp_path, "x")
    assert "documents" not in str(caught.value)


def test_loose_images_are_refused(tmp_path):
    make_class_folders(tmp_path)
    add(tmp_path, "loose.png")
    with pytest.raises(ArchiveError, match=r"outside any class folder: loose\.png"):
        class_folders.read(tmp_path, "x")


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(ArchiveError, match="only normal images"):
        class_folders.read(make_class_folders(tmp_path, {"normal": 3}), "x")
