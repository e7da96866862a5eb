"""A site's own images, one folder per class."""

import shutil
import subprocess

import numpy as np
import pytest

from fedbus.datasets.readers import class_folders
from fedbus.datasets.registry import read_dataset
from fedbus.errors import ArchiveError
from tests.archives import make_class_folders, make_image
from tests.dicoms import write_dicom


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


def test_the_remedy_for_masks_names_their_folders_and_no_reader_that_would_not_help(tmp_path):
    """Images and masks in folders of each class, under the names of BUSI."""
    for label in ("benign", "malignant"):
        add(tmp_path, f"{label}/images/{label} (1).png", f"{label}/mask/{label} (1)_mask.png")
    with pytest.raises(ArchiveError, match=r"looks like class-folders"):
        read_dataset("busi", tmp_path, "x")
    with pytest.raises(ArchiveError, match=r"2 masks.*\(folders benign/mask, malignant/mask\)\.$") as caught:
        read_dataset("class-folders", tmp_path, "x")
    assert "busi" not in caught.value.remedy
    for label in ("benign", "malignant"):
        shutil.rmtree(tmp_path / label / "mask")
    assert read_dataset("class-folders", tmp_path, "x").counts == {"benign": 1, "malignant": 1, "normal": 0}


def test_images_beside_a_folder_of_masks(tmp_path):
    add(tmp_path, "images/benign/1.png", "images/malignant/2.png", "masks/benign/1.png", "masks/malignant/2.png")
    with pytest.raises(ArchiveError, match=r"contains no class folders directly, only in .*/images\. Name that folder"):
        class_folders.read(tmp_path, "x")


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Training_set", "validation"), ("fold1", "fold_2", "fold3")]
)
def test_splits_made_elsewhere_are_merged_as_the_remedy_says(tmp_path, names):
    root = tmp_path / "own data"
    for i, name in enumerate(names):
        add(root, f"{name}/benign/1.png", f"{name}/malignant/{i}.png", f"{name}/malignant/x{i}.png")
    with pytest.raises(ArchiveError, match=r"cut into splits: .*are never used") as caught:
        read_dataset("class-folders", root, "x")
    command = caught.value.remedy.removeprefix("Merge them: ").partition("; then")[0]
    subprocess.run(command, shell=True, check=True)
    merged = read_dataset("class-folders", tmp_path / "own data-merged", "x")
    assert merged.counts == {"benign": len(names), "malignant": 2 * len(names), "normal": 0}
    (note,) = merged.notes
    assert note.endswith("are read as one: splits made elsewhere are never used")
    assert len(read_dataset("class-folders", root / names[1], "x").rows) == 3  # one of them on purpose


def test_splits_below_the_classes_are_read_as_one(tmp_path):
    add(tmp_path, "benign/train/1.png", "benign/test/1.png", "malignant/train/1.png", "malignant/val/2.png")
    manifest = class_folders.read(tmp_path, "x")
    assert manifest.counts == {"benign": 2, "malignant": 2, "normal": 0}
    assert manifest.notes == ("the folders test, train, val are read as one: splits made elsewhere are never used",)


def test_a_class_that_is_a_link_is_read(tmp_path):
    root = make_class_folders(tmp_path / "own", {"benign": 3})
    add(tmp_path / "pacs", "1.png", "deep/2.png")
    (root / "malignant").symlink_to(tmp_path / "pacs")
    assert class_folders.read(root, "x").counts == {"benign": 3, "malignant": 2, "normal": 0}


@pytest.mark.parametrize(("link", "target"), [("normal", "Benign"), ("Malignant/a.png", "../Benign/0.png")])
def test_a_link_into_another_class_is_refused(tmp_path, link, target):
    root = make_class_folders(tmp_path)
    shutil.rmtree(root / "Normal")
    (root / link).symlink_to(target)
    with pytest.raises(ArchiveError, match=rf"links that put files into two classes: {link} and Benign"):
        class_folders.read(root, "x")


def test_a_class_without_an_image_that_can_be_read_is_refused(tmp_path):
    root = make_class_folders(tmp_path)
    for path in (root / "Normal").iterdir():
        path.with_suffix(".heic").write_bytes(b"another format")
        path.unlink()
    (root / "Normal" / "more.zip").touch()
    with pytest.raises(ArchiveError, match=r"no image of normal that can be read, only 4 \.heic, 1 \.zip"):
        class_folders.read(root, "x")


def test_one_class_beside_an_archive_names_the_archive(tmp_path):
    root = make_class_folders(tmp_path, {"benign": 3})
    (root / "malignant.zip").write_bytes(b"PK")
    with pytest.raises(ArchiveError, match=r"only benign images.*Not read as images: 1 \.zip \(unpack archives\)"):
        class_folders.read(root, "x")


def test_dicom_files_without_an_ending(tmp_path):
    """As PACS export them: the patient is read, and other objects of the study are counted."""
    pixels = np.asarray(make_image(np.random.default_rng(0)))
    for name, patient in {"benign/IM0001": "A", "benign/IM0002": "A", "malignant/1.2.840.7": "B"}.items():
        write_dicom(tmp_path / name, pixels, PatientID=patient)
    write_dicom(tmp_path / "DICOMDIR", pixels, SOPClassUID="1.2.840.10008.1.3.10")
    write_dicom(tmp_path / "benign" / "SR0001", pixels, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    manifest = class_folders.read(tmp_path, "x")
    assert [row.path for row in manifest.rows] == ["benign/IM0001", "benign/IM0002", "malignant/1.2.840.7"]
    assert manifest.rows[0].patient == manifest.rows[1].patient != manifest.rows[2].patient
    assert manifest.notes == ("2 file(s) are not read as images: 1 DICOM without image, 1 DICOMDIR",)


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
