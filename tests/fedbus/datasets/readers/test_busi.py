"""BUSI: labels from folders, masks never images."""

import shutil
import subprocess

import numpy as np
import pytest

from fedbus.datasets.readers import busi
from fedbus.datasets.registry import read_dataset
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


def test_a_copy_in_splits_is_recognised_and_the_remedy_merges_it(tmp_path):
    folder, cut = make_busi(tmp_path / "whole") / "Dataset_BUSI_with_GT", tmp_path / "BUSI cut"
    for i, name in enumerate(("test", "train", "val")):
        for label in ("benign", "malignant", "normal"):
            (cut / name / label).mkdir(parents=True)
            for path in folder.glob(f"{label}/{label} (*)*.png"):
                if (int(path.name.partition("(")[2].partition(")")[0])) % 3 == i:
                    shutil.copy(path, cut / name / label)
    for reader in ("busi", "class-folders"):
        with pytest.raises(
            ArchiveError, match="cut into splits: test, train, val" if reader == "busi" else "like busi"
        ):
            read_dataset(reader, cut, "x")
    with pytest.raises(ArchiveError, match="one patient on both sides") as caught:
        busi.read(cut, "x")
    subprocess.run(caught.value.remedy.removeprefix("Merge them: ").partition("; then")[0], shell=True, check=True)
    merged, whole = busi.read(tmp_path / "BUSI cut-merged", "x"), busi.read(folder, "x")
    assert [(row.path, row.sha256) for row in merged.rows] == [(row.path, row.sha256) for row in whole.rows]


def test_one_split_beside_others_of_another_layout_is_not_read_alone(tmp_path):
    make_busi(tmp_path / "own" / "train")
    (tmp_path / "own" / "test").mkdir()
    make_image(np.random.default_rng(0)).save(tmp_path / "own" / "test" / "1.png")
    with pytest.raises(ArchiveError, match=r"cut into splits: train/Dataset_BUSI_with_GT, test"):
        busi.read(tmp_path / "own", "x")


def test_upper_case_endings(tmp_path):
    for path in (make_busi(tmp_path) / "Dataset_BUSI_with_GT").rglob("*.png"):
        path.rename(path.with_suffix(".PNG"))
    assert busi.read(tmp_path, "x").counts == {"benign": 6, "malignant": 5, "normal": 4}


def test_a_link_to_a_copy_is_no_second_copy(tmp_path):
    make_busi(tmp_path / "2024")
    (tmp_path / "latest").symlink_to("2024")
    assert len(busi.read(tmp_path, "x").rows) == 15


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
