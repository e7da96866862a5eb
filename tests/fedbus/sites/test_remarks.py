"""What the decoder remarks on files is a note of `check` and of a comparison, decoded now or earlier."""

import os

import numpy as np
import pytest
from PIL import Image
from pydicom.sequence import Sequence

from fedbus.errors import ImageError
from fedbus.images.remarks import JOINED_REGIONS, SEVERAL_FRAMES, SEVERAL_IMAGES
from fedbus.sites.inspect_dataset import inspect_dataset
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import read_facts
from tests.archives import make_class_folders, make_image
from tests.dicoms import region, write_dicom
from tests.tiny import tiny_settings

COUNTS = {"benign": 8, "malignant": 8, "normal": 8}


@pytest.fixture
def dataset(tmp_path):
    """A site's images, some of which declare more than one image or region."""
    root = make_class_folders(tmp_path / "north", COUNTS)
    generator = np.random.default_rng(5)
    first, second = make_image(generator), make_image(generator)
    first.save(root / "Benign" / "pages.tif", save_all=True, append_images=[second])
    first.rotate(90).save(root / "Normal" / "loop.gif", save_all=True, append_images=[second])
    frames = generator.integers(0, 256, (3, 40, 60), dtype=np.uint8)
    write_dicom(root / "Malignant" / "cine.dcm", frames, NumberOfFrames=3)
    views = {"SequenceOfUltrasoundRegions": Sequence([region((0, 0, 28, 39)), region((30, 0, 59, 39))])}
    for i in range(2):
        write_dicom(root / "Malignant" / f"dual{i}.dcm", generator.integers(0, 256, (40, 60), dtype=np.uint8), **views)
    return root


NOTES = [
    f"1 file(s) {SEVERAL_FRAMES}: Malignant/cine.dcm",
    f"2 file(s) {SEVERAL_IMAGES}: Benign/pages.tif, Normal/loop.gif",
    f"2 file(s) {JOINED_REGIONS}: Malignant/dual0.dcm, Malignant/dual1.dcm",
]


def test_remarks_are_notes_of_check_and_of_a_comparison(dataset, tmp_path):
    inspection = inspect_dataset("class-folders", dataset, "north", 20)
    assert [note for note in inspection.notes if "file(s)" in note] == NOTES
    settings = tiny_settings(
        sites={"north": {"reader": "class-folders", "path": dataset}}, cache=tmp_path / "cache", folds=3
    )
    for out in ("first", "second"):  # decoded, then from the cache
        prepare_sites(settings, tmp_path / out)
        notes = read_facts(tmp_path / out)["north"]["notes"]
        assert [note for note in notes if "file(s)" in note] == NOTES


def test_names_in_remarks_are_those_of_now(dataset, tmp_path):
    """The cache knows images by their content."""
    settings = tiny_settings(
        sites={"north": {"reader": "class-folders", "path": dataset}}, cache=tmp_path / "cache", folds=3
    )
    prepare_sites(settings, tmp_path / "first")
    (dataset / "Malignant" / "cine.dcm").rename(dataset / "Malignant" / "cine2.dcm")
    (dataset / "Malignant" / "dual1.dcm").rename(dataset / "Malignant" / "dual9.dcm")
    prepare_sites(settings, tmp_path / "second")
    notes = read_facts(tmp_path / "second")["north"]["notes"]
    assert f"1 file(s) {SEVERAL_FRAMES}: Malignant/cine2.dcm" in notes
    assert f"2 file(s) {JOINED_REGIONS}: Malignant/dual0.dcm, Malignant/dual9.dcm" in notes


def test_pipes_beside_images_do_not_block_and_are_no_images(dataset):
    os.mkfifo(dataset / "Benign" / "pipe.png")
    os.mkfifo(dataset / "Benign" / "pipe.dcm")
    assert sum(inspect_dataset("class-folders", dataset, "north", 20).counts.values()) == sum(COUNTS.values()) + 5


def test_an_image_above_the_limit_is_named_by_check_and_comparison(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr("fedbus.images.limits.MOST_PIXELS", 5000)
    Image.new("L", (100, 60), 9).save(dataset / "Benign" / "wide.png")
    (unreadable,) = inspect_dataset("class-folders", dataset, "north", 20).unreadable
    assert unreadable.path == "Benign/wide.png"
    assert unreadable.reason == "can't be decoded: it claims more pixels than any scanner makes (the most is 5,000)"
    with pytest.raises(ImageError, match=r"1 image\(s\) of north can't be used: .*wide\.png"):
        prepare_sites(
            tiny_settings(
                sites={"north": {"reader": "class-folders", "path": dataset}}, cache=tmp_path / "cache", folds=3
            ),
            tmp_path / "out",
        )
