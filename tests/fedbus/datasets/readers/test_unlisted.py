"""Files beside labels.csv that no row lists, rows that name other files, and links."""

import shutil

import numpy as np
import pytest
from PIL import Image

from fedbus.datasets.readers import labels_csv
from fedbus.datasets.registry import read_dataset
from fedbus.errors import ArchiveError
from tests.archives import make_image, make_labels_csv
from tests.dicoms import make_dicom_csv, write_dicom


def replace(root, old, new):
    table = root / "labels.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new, 1))


@pytest.fixture
def root(tmp_path):
    return make_labels_csv(tmp_path / "own")


def disc():
    pixels = np.zeros((40, 48), dtype=np.uint8)
    pixels[10:20, 10:30] = 255
    return Image.fromarray(pixels)


def test_unlisted_masks_are_left_out_whatever_their_names_are(root):
    (root / "GT").mkdir()
    disc().convert("1").save(root / "GT" / "benign-0.png")
    disc().convert("RGB").save(root / "scans" / "benign-1_tumor.bmp")
    disc().save(root / "scans" / "anything.jpg", quality=50)
    manifest = labels_csv.read(root, "x")
    assert len(manifest.rows) == 15
    assert manifest.notes == (
        "3 unlisted file(s) with the grey values of a mask are left out: "
        "GT/benign-0.png, scans/anything.jpg, scans/benign-1_tumor.bmp",
    )


def test_other_unlisted_images_are_named_with_a_remedy_that_helps(root):
    generator = np.random.default_rng(1)
    for i in range(30):
        make_image(generator).save(root / "scans" / f"benign-0_overlay{i:02}.png")
    (root / "scans" / "broken.png").write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"31 files without a row: scans/benign-0_overlay00\.png") as caught:
        labels_csv.read(root, "x")
    assert caught.value.remedy == "Add rows for the other files, or move them out of the folder."
    for path in [*root.glob("scans/*overlay*"), root / "scans" / "broken.png"]:
        path.unlink()
    assert len(labels_csv.read(root, "x").rows) == 15


def test_rows_through_links(tmp_path, root):
    """A linked folder, a link beside the file that it leads to, and a link out of the dataset."""
    (tmp_path / "pacs").mkdir()
    (root / "scans" / "benign-1.png").rename(tmp_path / "pacs" / "far.png")
    (root / "scans" / "benign-1.png").symlink_to(tmp_path / "pacs" / "far.png")
    (root / "scans" / "normal").mkdir()
    (root / "scans" / "normal-0.png").rename(root / "scans" / "normal" / "0.png")
    (root / "linked").symlink_to("scans")
    (root / "first.png").symlink_to("scans/benign-0.png")
    replace(root, "scans/benign-0.png", "first.png")
    replace(root, "scans/normal-0.png", "linked/normal/0.png")
    replace(root, "scans/normal-1.png", "linked/normal-1.png")
    manifest = labels_csv.read(root, "x")
    assert len(manifest.rows) == 15
    assert {"scans/benign-0.png", "scans/normal/0.png", "scans/benign-1.png"} <= {row.path for row in manifest.rows}
    assert "2 link(s) lead to what is read already" in manifest.notes[0]


def test_one_file_listed_by_two_names_is_named(root):
    (root / "again.png").symlink_to("scans/benign-0.png")
    replace(root, "scans/benign-1.png", "again.png")
    with pytest.raises(ArchiveError, match=r"1 named more than once: scans/benign-0\.png"):
        labels_csv.read(root, "x")


def test_frames_of_dicom_files_without_an_ending(tmp_path):
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 48), dtype=np.uint8)
    write_dicom(tmp_path / "IM0001", frames, NumberOfFrames=3, PatientID="A")
    write_dicom(tmp_path / "1.2.3", frames, NumberOfFrames=3)
    make_dicom_csv(
        tmp_path,
        [("IM0001", "benign", "", "1"), ("IM0001", "benign", "", "3"), ("1.2.3", "malignant", "", "2")],
    )
    manifest = labels_csv.read(tmp_path, "x")
    assert [row.path for row in manifest.rows] == ["1.2.3#2", "IM0001#1", "IM0001#3"]
    assert manifest.rows[1].patient == manifest.rows[2].patient is not None


def test_rows_that_name_other_files_are_refused(root):
    shutil.copy(root / "scans" / "benign-0.png", root / "scans" / "other")
    replace(root, "scans/benign-0.png", "scans/other")
    write_dicom(root / "SR.dcm", np.zeros((4, 4), dtype=np.uint8), SOPClassUID="1.2.840.10008.5.1.4.1.1.88.33")
    replace(root, "scans/benign-1.png", "SR.dcm")
    with pytest.raises(ArchiveError, match=r"not images: row 2 \(scans/other\), row 3 \(SR\.dcm\)"):
        labels_csv.read(root, "x")


def test_a_table_below_the_folder_is_found_and_splits_are_refused(tmp_path):
    make_labels_csv(tmp_path / "own" / "scans")
    with pytest.raises(
        ArchiveError, match=r"contains no labels\.csv directly, only in .*/own/scans\. Name that folder"
    ):
        read_dataset("labels-csv", tmp_path / "own", "x")
    for name in ("train", "test"):
        make_labels_csv(tmp_path / "cut" / name)
    with pytest.raises(ArchiveError, match=r"cut into splits: test, train\. .*one folder with one table"):
        read_dataset("labels-csv", tmp_path / "cut", "x")


def test_other_files_are_counted(root):
    (root / "scans" / "video.mp4").write_bytes(b"x")
    assert labels_csv.read(root, "x").notes == ("1 file(s) are not read as images: 1 .mp4",)
