"""Annotated copies are near-duplicates with a word added to the name."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fedbus.datasets.manifest import Row
from fedbus.sites.annotated_copies import annotated_copies_note
from fedbus.sites.groups import Pair
from fedbus.sites.inspect_dataset import inspect_dataset
from tests.archives import make_class_folders


@pytest.mark.parametrize(
    ("first", "second", "copy"),
    [
        ("b/x1.png", "b/x1_overlay.png", "b/x1_overlay.png"),
        ("b/X1-Annotated.jpg", "b/x1.png", "b/X1-Annotated.jpg"),
        ("b/x1.png", "copies/x1 (calipers).png", "copies/x1 (calipers).png"),
        ("b/x1.dcm#3", "b/x1_outline.png", "b/x1_outline.png"),
        ("b/x1.png", "b/x1_2.png", None),
        ("b/x1.png", "b/x10.png", None),
        ("b/x_left.png", "b/x_right.png", None),
        ("b/x.png", "c/x.png", None),
    ],
)
def test_names_of_copies(first, second, copy):
    rows = [Row(first, "benign", None, ""), Row(second, "benign", None, ""), Row("other.png", "benign", None, "")]
    notes = annotated_copies_note(rows, [Pair(0, 1, 3)])
    assert len(notes) == (copy is not None)
    assert copy is None or (notes[0].startswith("1 image(s) are near-duplicates") and notes[0].endswith(f": {copy}"))
    assert annotated_copies_note(rows, []) == []


def test_an_outlined_copy_is_noted_by_the_check(tmp_path):
    root = make_class_folders(tmp_path)
    x, y = np.meshgrid(np.arange(160), np.arange(120))
    scan = Image.fromarray((127 + 60 * np.sin(x / 9) + 60 * np.cos(y / 7)).astype(np.uint8))
    scan.save(root / "Benign" / "scan.png")
    outlined = scan.convert("RGB")
    ImageDraw.Draw(outlined).ellipse((60, 40, 90, 70), outline=(0, 255, 0))
    outlined.save(root / "Benign" / "scan_outline.png")
    notes = inspect_dataset("class-folders", root, "x", 20).notes
    assert any(note.endswith("as annotated copies are: Benign/scan_outline.png") for note in notes)
