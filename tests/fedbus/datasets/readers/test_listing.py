"""The images of a folder: links, hidden files, other files."""

import os

import numpy as np
import pytest

from fedbus.datasets.readers.common import image_files
from fedbus.datasets.readers.listing import has_images, list_images
from fedbus.errors import ArchiveError
from tests.archives import make_image
from tests.dicoms import write_dicom


@pytest.fixture
def image():
    return make_image(np.random.default_rng(0))


@pytest.fixture
def add(tmp_path, image):
    """Save the image under these names below the dataset's folder."""

    def save(*names, root=tmp_path / "own"):
        for name in names:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            image.save(root / name)
        return root

    return save


def names(listing):
    return [path.relative_to(listing.folder).as_posix() for path in listing.images]


def test_links_to_folders_and_files_are_followed(tmp_path, add):
    root, outside = add("benign/1.png"), add("2021/3.png", "4.png", root=tmp_path / "pacs")
    (root / "malignant").symlink_to(outside / "2021")
    (root / "benign" / "other.png").symlink_to(outside / "4.png")
    listing = list_images(root)
    assert names(listing) == ["benign/1.png", "benign/other.png", "malignant/3.png"]
    assert listing.notes == []
    assert has_images(root / "malignant")


def test_loops_end_and_no_file_is_listed_twice(tmp_path, add):
    root = add("benign/1.png", "benign/2/3.png")
    (root / "benign" / "loop").symlink_to(root / "benign")
    (root / "benign" / "2" / "up").symlink_to("..")
    (root / "all").symlink_to(root)
    (root / "above").symlink_to(tmp_path)
    (root / "root").symlink_to("/")
    (root / "a.png").symlink_to("benign/1.png")
    (root / "again").symlink_to("benign/2")
    listing = list_images(root)
    assert names(listing) == ["benign/1.png", "benign/2/3.png"]
    assert len(listing.repeated) == 7
    (note,) = listing.notes
    assert note.startswith("7 link(s) lead to what is read already")
    assert "a.png (read as benign/1.png)" in note


def test_two_links_to_one_folder_outside(tmp_path, add):
    outside = add("x/1.png", "x/y/2.png", root=tmp_path / "pacs") / "x"
    root = add("0.png")
    (root / "a").symlink_to(outside / "y")
    (root / "b").symlink_to(outside)
    listing = list_images(root)
    assert names(listing) == ["0.png", "a/2.png", "b/1.png"]
    assert [(link.name, target.name) for link, target in listing.repeated] == [("y", "a")]


def test_equal_files_of_a_published_dataset_may_be_one_file(tmp_path, add):
    root = add("images/1.png", "store/a.png")
    for name in ("2.png", "3.png"):
        (root / "images" / name).symlink_to("../store/a.png")
    assert [path.name for path in image_files(root / "images")] == ["1.png", "2.png", "3.png"]
    assert len(image_files(root, nested=True)) == 4
    assert names(list_images(root)) == ["images/1.png", "store/a.png"]


@pytest.mark.parametrize("name", ["benign", "1.PNG", "scan.dcm"])
def test_links_that_lead_nowhere_are_named(tmp_path, add, name):
    root = add("0.png")
    (root / name).symlink_to(tmp_path / "unmounted")
    with pytest.raises(ArchiveError, match=rf"1 link\(s\) that lead nowhere: {name} \(to .*unmounted\)"):
        list_images(root)


def test_a_link_to_itself_leads_nowhere_and_other_broken_links_do_not_matter(add):
    root = add("0.png")
    (root / "notes.txt").symlink_to("gone.txt")
    assert names(list_images(root)) == ["0.png"]
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    with pytest.raises(ArchiveError, match=r"2 link\(s\) that lead nowhere: a \(to b\), b \(to a\)"):
        list_images(root)


def test_hidden_files_and_those_of_operating_systems_are_ignored(add):
    root = add(
        "0.png",
        ".hidden.png",
        "._0.png",
        ".git/1.png",
        "__MACOSX/0.png",
        "@eaDir/0.png/thumb.jpg",
        "$RECYCLE.BIN/1.png",
    )
    for name in (".DS_Store", "Thumbs.db", "desktop.ini"):
        (root / name).write_bytes(b"\x01")
    listing = list_images(root)
    assert names(listing) == ["0.png"]
    assert listing.notes == []


def test_other_files_are_counted_by_ending(add, image):
    root = add("0.png")
    for name in ("a.heic", "b.HEIC", "c.zip", "IM1", "IM2", "notes.txt", "report.pdf"):
        (root / name).write_bytes(b"x")
    with (root / "IM3").open("wb") as file:
        image.save(file, "PNG")
    write_dicom(root / "DICOMDIR", np.asarray(image), SOPClassUID="1.2.840.10008.1.3.10")
    write_dicom(root / "IM4", np.asarray(image))
    os.mkfifo(root / "pipe.png")
    listing = list_images(root)
    assert names(listing) == ["0.png", "IM4"]
    assert listing.notes == [
        "8 file(s) are not read as images: 2 .heic, 2 no ending, 1 .zip, 1 DICOMDIR, 1 images with no ending, "
        "1 pipes, sockets or devices (unpack archives; rename images to end in their format)"
    ]


def test_only_the_commonest_endings_are_named(add):
    root = add("0.png")
    for i in range(12):
        (root / f"a.x{i}").write_bytes(b"x")
    (note,) = list_images(root).notes
    assert note.endswith("1 .x4, 1 .x5, 4 other(s)")


def test_names_that_can_not_be_passed_on_are_refused(add):
    root = add("benign/0.png")
    (root / "benign").rename(root / os.fsdecode(b"gr\xf6\xdfe"))
    with pytest.raises(ArchiveError, match=r"names are not UTF-8: gr.*udcf6.*e/0\.png") as caught:
        list_images(root)
    str(caught.value).encode()


def test_names_that_look_like_frames_are_refused(add, image):
    root = add("0.png")
    image.convert("RGB").save(root / "a.png#2", "PNG")
    write_dicom(root / "IM1#2", np.asarray(image))
    with pytest.raises(ArchiveError, match=r"1 image\(s\) whose names end like the frame of a file: IM1#2\."):
        list_images(root)


def test_a_folder_that_can_not_be_read_is_an_error(add, monkeypatch):
    root = add("benign/0.png")
    scan = os.scandir

    def forbid(path):
        if path.name == "benign":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbid)
    with pytest.raises(PermissionError):
        list_images(root)
    assert not has_images(root)
