"""Masks among the images: refused by check and compare alike, whatever their names are."""

import io
import json

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from fedbus.datasets.manifest import Row
from fedbus.datasets.registry import read_dataset
from fedbus.errors import ArchiveError
from fedbus.reports.archive_check import check_sites
from fedbus.sites import decoding
from fedbus.sites.masks import find_masks
from fedbus.sites.pixel_cache import PixelCache, decode_dataset
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import SITES_FILE
from tests.archives import make_class_folders
from tests.tiny import tiny_settings


def related(image, mask):
    """Whether a file with the greys of a mask is taken as the mask of an image."""
    others = [Row(f"b/other {name}.png", "benign", None, "") for name in "abc"]
    rows = [Row(image, "benign", None, ""), Row(mask, "benign", None, ""), *others]
    masks, doubtful = find_masks(rows, [False, True, False, False, False])
    assert sorted(masks + doubtful) == [mask]
    return bool(masks)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        *(("b/x1.png", f"b/x1{suffix}.png") for suffix in (
            "_tumor", "_GT", "-seg", "_lesion", ".label", "_annotation", "Mask", "_Segmentation", " copy", "_m", "_2"
        )),
        ("b/x1.png", "GT/x1.png"),
        ("b/x1.png", "b/labels/X1.PNG"),
        ("b/x1.jpg", "b/x1.png"),
        ("b/x1.png", "b/GT_x1.png"),
        ("b/x1.png", "b/seg-x1.png"),
        ("b/12.png", "b/gt12.png"),
        ("b/x1_original.png", "b/x1.png"),
        ("b/img_001.png", "b/seg_001.png"),
        ("b/image 7.png", "b/tumour 007.png"),
        ("b/scan.dcm#2", "b/scan_GT.png"),
    ],
)  # fmt: skip
def test_names_of_masks(image, mask):
    assert related(image, mask)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("b/1.png", "b/10.png"),
        ("b/10.png", "b/1.png"),
        ("b/0.png", "b/flat0.png"),
        ("b/x.png", "b/outline.png"),
        ("b/img_001.png", "b/seg_002.png"),
        ("b/scan.dcm#2", "b/scan.dcm#1"),  # another frame of the same file
    ],
)
def test_names_of_other_images(image, mask):
    assert not related(image, mask)


def test_a_class_of_which_half_are_masks():
    rows = [
        Row(name, label, None, "") for name, label in (("a.png", "benign"), ("b.png", "normal"), ("c.png", "normal"))
    ]
    assert find_masks(rows, [False, True, True]) == (["b.png", "c.png"], [])
    assert find_masks(rows, [False, True, False]) == (["b.png"], [])
    rows.append(Row("d.png", "normal", None, ""))
    assert find_masks(rows, [False, True, False, False]) == ([], ["b.png"])
    assert find_masks(rows, [False, False, False]) == ([], [])


@pytest.fixture
def with_masks(tmp_path):
    root = make_class_folders(tmp_path / "own", {"benign": 6, "malignant": 6})
    mask = np.zeros((40, 48), dtype=np.uint8)
    mask[10:20, 10:20] = 255
    for i in range(6):
        Image.fromarray(mask).convert("1").save(root / "Malignant" / f"{i}_tumor.png")
        mask[10 + i, 25] = 255
    return root


def test_check_and_compare_refuse_masks_with_the_same_words(tmp_path, with_masks):
    console = Console(file=io.StringIO(), width=400)
    assert check_sites([("own", "class-folders", with_masks)], tmp_path / "c.json", console) == 1
    settings = tiny_settings(
        sites={"own": {"reader": "class-folders", "path": str(with_masks)}}, cache=str(tmp_path / "cache"), folds=3
    )
    for _ in range(2):  # decoded, and from the cache
        with pytest.raises(ArchiveError, match="6 masks among its images: Malignant/0_tumor") as caught:
            prepare_sites(settings, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    printed = console.file.getvalue()
    assert "6 of 18 images are masks" in printed
    assert caught.value.problem in printed
    assert caught.value.remedy in printed
    (report,) = json.loads((tmp_path / "c.json").read_text())["sites"]
    assert report["masks"] == [f"Malignant/{i}_tumor.png" for i in range(6)]
    assert not report["usable"]


def test_an_image_that_may_be_a_mask_is_noted_in_the_run_too(tmp_path, with_masks):
    for i in range(6):
        (with_masks / "Malignant" / f"{i}_tumor.png").unlink()
    Image.new("L", (48, 40)).save(with_masks / "Benign" / "blank.png")
    settings = tiny_settings(
        sites={"own": {"reader": "class-folders", "path": str(with_masks)}}, cache=str(tmp_path / "cache"), folds=3
    )
    prepare_sites(settings, tmp_path / "run")
    (site,) = json.loads((tmp_path / "run" / SITES_FILE).read_text()).values()
    assert site["notes"][0] == "1 image(s) with the grey values of a mask: Benign/blank.png"


def test_fingerprints_of_an_older_version_are_decoded_again(tmp_path, with_masks, monkeypatch):
    manifest, cache = read_dataset("class-folders", with_masks, "own"), PixelCache(tmp_path / "cache", 16)
    pixels = decode_dataset(manifest, cache)
    assert [row.path for row, flat in zip(manifest.rows, pixels.mask_greys, strict=True) if flat] == [
        f"Malignant/{i}_tumor.png" for i in range(6)
    ]
    (prints,) = (tmp_path / "cache").rglob("*-prints.npy")
    np.save(prints, np.load(prints)[:, :64])
    assert cache.load(manifest) is None
    decode_dataset(manifest, cache)
    monkeypatch.setattr(decoding, "decode_image", lambda path: pytest.fail("decoded twice"))
    np.testing.assert_array_equal(decode_dataset(manifest, cache).mask_greys, pixels.mask_greys)
