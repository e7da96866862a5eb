"""BUSI: labels from folders, masks never images."""

import shutil

import numpy as np
import pytest

from fedbus.datasets.readers import busi
from fedbus.errors import ArchiveError
from tests.archives import make_busi, make_image


def test_reads_images_and_no_masks(tmp_path):
    manifest = busi.read(make_busi(tmp_path), "north")

    assert manifest.counts == {"benign": 6, "malignant": 5, "normal": 4}
    assert manifest.site == "north"
    assert manifest.root == tmp_path
    assert manifest.rows[0].path == "Dataset_BUSI_with_GT/benign/benign (1).png"
    assert not any("mask" in row.path for row in manifest.rows)
    assert {row.patient for row in manifest.rows} == {None}


def test_notes_the_distance_to_the_census(tmp_path):
    manifest = busi.read(make_busi(tmp_path), "north")
    assert manifest.notes == (
        "benign: 6 images found, 437 published",
        "malignant: 5 images found, 210 published",
        "normal: 4 images found, 133 published",
    )


@pytest.mark.parametrize("depth", ["itself", "above", "doubled"])
def test_finds_the_folder_where_it_was_unpacked(tmp_path, depth):
    make_busi(tmp_path / "in" / "in")
    root = {
        "itself": tmp_path / "in" / "in" / "Dataset_BUSI_with_GT",
        "above": tmp_path / "in",
        "doubled": tmp_path,
    }[depth]
    assert len(busi.read(root, "x").rows) == 15


def test_two_copies_are_refused(tmp_path):
    make_busi(tmp_path / "old")
    shutil.copytree(tmp_path / "old", tmp_path / "new")
    with pytest.raises(ArchiveError, match="2 copies of one dataset"):
        busi.read(tmp_path, "x")


def test_every_stray_image_is_named(tmp_path):
    folder = make_busi(tmp_path) / "Dataset_BUSI_with_GT"
    generator = np.random.default_rng(1)
    for name in ("loose.png", "benign/malignant (1).png", "normal/scan.jpg"):
        make_image(generator).save(folder / name)
    (folder / "other").mkdir()
    make_image(generator).save(folder / "other" / "benign (9).png")

    with pytest.raises(ArchiveError, match="4 images") as caught:
        busi.read(tmp_path, "x")
    for name in ("loose.png", "benign/malignant (1).png", "normal/scan.jpg", "other/benign (9).png"):
        assert name in str(caught.value)


def test_hidden_files_of_macos_are_ignored(tmp_path):
    folder = make_busi(tmp_path / "unpacked") / "Dataset_BUSI_with_GT"
    (folder / "benign" / "._benign (1).png").write_bytes(b"resource fork")
    (tmp_path / "__MACOSX").mkdir()
    shutil.copytree(folder, tmp_path / "__MACOSX" / "Dataset_BUSI_with_GT")
    assert len(busi.read(tmp_path, "x").rows) == 15


def test_one_class_is_not_enough(tmp_path):
    with pytest.raises(ArchiveError, match="at least two classes"):
        busi.read(make_busi(tmp_path, {"benign": 3}), "x")


def test_the_real_dataset_matches_its_census(shared_data):
    for root in (shared_data / "BUSI", shared_data / "BUSI" / "Dataset_BUSI_with_GT"):
        manifest = busi.read(root, "busi")
        assert manifest.counts == busi.CENSUS == {"benign": 437, "malignant": 210, "normal": 133}
        assert manifest.notes == ()
