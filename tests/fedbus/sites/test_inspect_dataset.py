"""The inspection decodes once, fills the pixel cache, splits as a comparison does, and starts quickly.

What it finds is tested through `fedbus check` in `tests/fedbus/reports`.
"""

import shutil
import subprocess
import sys

import numpy as np

from fedbus.datasets.registry import read_dataset
from fedbus.sites.inspect_dataset import inspect_manifest
from fedbus.sites.pixel_cache import PixelCache, decode_dataset
from tests.archives import make_class_folders


def test_the_images_are_stored_as_the_pixel_cache_stores_them(tmp_path):
    manifest = read_dataset("class-folders", make_class_folders(tmp_path / "north"), "north")
    filled, expected = PixelCache(tmp_path / "filled", 24), PixelCache(tmp_path / "expected", 24)
    found = inspect_manifest(manifest, "class-folders", 20, cache=filled)
    stored, decoded = filled.load(manifest), decode_dataset(manifest, expected)
    assert stored is not None
    for name in ("images", "hashes", "digests"):
        np.testing.assert_array_equal(getattr(stored, name), getattr(decoded, name))
    assert inspect_manifest(manifest, "class-folders", 20, cache=filled) == found  # from a filled cache too


def test_nothing_is_stored_if_an_image_is_broken(tmp_path):
    root = make_class_folders(tmp_path / "north")
    (root / "Benign" / "0.png").write_bytes(b"")
    manifest = read_dataset("class-folders", root, "north")
    found = inspect_manifest(manifest, "class-folders", 20, cache=PixelCache(tmp_path / "cache", 24))
    assert [each.path for each in found.unreadable] == ["Benign/0.png"]
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_the_reason_against_a_split_names_no_file_in_its_first_sentence(tmp_path):
    root = make_class_folders(tmp_path, {"benign": 4, "malignant": 3})
    for i in range(3):
        shutil.copy(root / "Benign" / f"{i}.png", root / "Malignant" / f"{i}.png")
    manifest = read_dataset("class-folders", root, "north")
    reason = inspect_manifest(manifest, "class-folders", 20).unsplittable
    assert reason is not None
    assert reason.startswith("north: 1 of 7 images are left, of fewer than two classes; 6 were dropped as duplicates. ")
    assert "Benign/0.png" in reason


def test_what_the_first_image_does_not_need_is_imported_later():
    code = "import sys, fedbus.cli, fedbus.reports.archive_check; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"scipy.ndimage", "sklearn", "pydicom", "openpyxl", "torch", "flwr", "ray"} & set(loaded)
