"""Every image is decoded once, and a broken one does not stop the others."""

import pytest

from fedbus.datasets.registry import read_dataset
from fedbus.sites import decoding
from fedbus.sites.decoding import decode_images
from tests.archives import make_class_folders


@pytest.mark.parametrize("rows", [1, 4, 4096])
def test_each_image_is_visited_once_and_errors_are_returned_in_order(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "ROWS_AT_A_TIME", rows)
    root = make_class_folders(tmp_path)
    for name in ("Normal/1.png", "Benign/2.png"):
        (root / name).write_bytes(b"")
    manifest = read_dataset("class-folders", root, "north")
    visited: dict[int, tuple[int, int]] = {}
    advanced: list[int] = []
    errors = decode_images(manifest, lambda row, image: visited.setdefault(row, image.size), advanced.append)
    assert [manifest.rows[row].path for row in errors] == ["Benign/2.png", "Normal/1.png"]
    assert all("is an empty file" in error.problem for error in errors.values())
    assert sorted([*visited, *errors]) == list(range(len(manifest.rows)))
    assert sum(advanced) == len(manifest.rows)


def test_an_error_of_the_visitor_is_raised(tmp_path):
    def fail(row: int, image: object) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        decode_images(read_dataset("class-folders", make_class_folders(tmp_path), "north"), fail)
