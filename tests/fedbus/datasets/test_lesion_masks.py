"""Lesion masks: found beside the images of each dataset, joined, checked for their size, resized."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedbus.datasets.lesion_masks import find_mask_files, read_lesion_mask, resize_lesion_mask
from fedbus.datasets.readers import labels_csv
from fedbus.datasets.registry import read_dataset
from fedbus.errors import ImageError
from fedbus.images.decode import resize_image
from tests.archives import (
    SIZE,
    make_bus_bra,
    make_bus_uclm,
    make_busi,
    make_class_folders,
    make_labels_csv,
    write_table,
)


def save_mask(path: Path, top: int, bottom: int, size: tuple[int, int] = SIZE, mode: str = "1") -> None:
    """A white bar over the full width, from row `top` to `bottom`."""
    pixels = np.zeros((size[1], size[0]), dtype=np.uint8)
    pixels[top:bottom] = 255
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.mark.parametrize(
    ("reader", "make"), [("busi", make_busi), ("bus-uclm", make_bus_uclm), ("bus-bra", make_bus_bra)]
)
def test_every_image_of_a_published_dataset_has_its_own_mask(tmp_path: Path, reader: str, make) -> None:
    """Each mask gets another number of rows, which only the right pairing gives back."""
    root = make(tmp_path)
    paths = [row.path for row in read_dataset(reader, root, "x").rows]
    stems = [Path(path).stem.replace("bus_", "") for path in paths]
    expected = {}
    for number, stem in enumerate(sorted(stems)):
        for mask in [path for path in root.rglob("*.png") if stem in path.stem and "mask" in str(path).casefold()]:
            expected[stem] = number % SIZE[1] + 1
            save_mask(mask, 0, expected[stem])

    found = find_mask_files(reader, root, paths)

    for path, stem, masks in zip(paths, stems, found, strict=True):
        mask = read_lesion_mask(root / path, SIZE, masks)
        assert mask is not None
        assert mask.shape == SIZE[::-1]
        assert mask.sum() == expected[stem] * SIZE[0], path


def test_several_masks_of_a_busi_image_are_joined(tmp_path: Path) -> None:
    root = make_busi(tmp_path)
    folder = root / "Dataset_BUSI_with_GT" / "benign"
    save_mask(folder / "benign (1)_mask.png", 0, 4)
    save_mask(folder / "benign (1)_mask_1.png", 2, 7)
    path = "Dataset_BUSI_with_GT/benign/benign (1).png"
    (masks,) = find_mask_files("busi", root, [path])
    assert [mask.name for mask in masks] == ["benign (1)_mask.png", "benign (1)_mask_1.png"]
    mask = read_lesion_mask(root / path, SIZE, masks)
    assert mask is not None
    assert mask.any(axis=1).nonzero()[0].tolist() == list(range(7))


def test_an_image_without_a_mask_file_has_none_and_an_empty_mask_has_no_lesion(tmp_path: Path) -> None:
    root = make_bus_bra(tmp_path)
    rows = read_dataset("bus-bra", root, "x").rows
    first, second = (root / "BUSBRA" / "Masks" / Path(row.path).name.replace("bus", "mask") for row in rows[:2])
    first.unlink()
    save_mask(second, 0, 0)
    files = find_mask_files("bus-bra", root, [row.path for row in rows])
    assert files[0] == ()
    assert read_lesion_mask(root / rows[0].path, SIZE, files[0]) is None
    empty = read_lesion_mask(root / rows[1].path, SIZE, files[1])
    assert empty is not None
    assert not empty.any()


def test_a_reader_without_masks_gives_none(tmp_path: Path) -> None:
    root = make_class_folders(tmp_path)
    paths = [row.path for row in read_dataset("class-folders", root, "x").rows]
    assert find_mask_files("class-folders", root, paths) == [()] * len(paths)


def test_a_mask_of_another_size_is_refused_with_both_files(tmp_path: Path) -> None:
    image, mask = tmp_path / "a.png", tmp_path / "a_mask.png"
    save_mask(mask, 0, 5, (SIZE[0] + 1, SIZE[1]))
    with pytest.raises(ImageError) as error:
        read_lesion_mask(image, SIZE, [mask])
    assert str(mask) in error.value.problem
    assert str(image) in error.value.problem
    assert "Restore the mask" in error.value.remedy


def test_a_damaged_mask_is_refused_by_name(tmp_path: Path) -> None:
    mask = tmp_path / "a_mask.png"
    mask.write_bytes(b"no image")
    with pytest.raises(ImageError, match=r"a_mask\.png"):
        read_lesion_mask(tmp_path / "a.png", SIZE, [mask])


@pytest.mark.parametrize("white", [1, 2, 76, 150, 255])
def test_a_mask_may_use_any_grey_for_its_lesion(tmp_path: Path, white: int) -> None:
    pixels = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    pixels[10:20, 5:9] = white
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    mask = read_lesion_mask(tmp_path / "a.png", SIZE, [tmp_path / "mask.png"])
    assert np.array_equal(mask, pixels > 0)


def test_the_noise_of_a_compressed_mask_is_no_lesion(tmp_path: Path) -> None:
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[16:48, 16:48] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.jpg", quality=50)
    mask = read_lesion_mask(tmp_path / "a.png", (64, 64), [tmp_path / "mask.jpg"])
    assert mask is not None
    assert (mask != (pixels > 0)).mean() < 0.02


def test_a_mask_is_resized_in_place_with_its_image() -> None:
    mask = np.zeros((80, 60), dtype=np.bool_)
    mask[20:60, 15:45] = True
    small = resize_lesion_mask(mask, 16)
    assert small.dtype == np.bool_
    assert np.array_equal(small, resize_image(Image.fromarray(mask.astype(np.uint8) * 255), 16) >= 128)
    assert small[4:12, 4:12].all()
    assert small.sum() == 64


def make_masked_table(root: Path) -> Path:
    """`make_labels_csv` with a column `mask`, whose files have names that no mask has."""
    make_labels_csv(root)
    names = sorted(path.name for path in (root / "scans").iterdir())
    (root / "lesions").mkdir()
    rows = []
    for number, name in enumerate(names):
        save_mask(root / "lesions" / name, 0, number + 1)
        rows.append((f"scans/{name}", name.split("-")[0], f"lesions\\{name}"))
    write_table(root / "labels.csv", ("file", "label", "Mask"), rows)
    return root


def test_the_column_mask_of_labels_csv_names_masks_that_are_no_images(tmp_path: Path) -> None:
    root = make_masked_table(tmp_path)
    manifest = labels_csv.read(root, "x")
    assert [row.path.split("/")[0] for row in manifest.rows] == ["scans"] * 15
    assert not [note for note in manifest.notes if "not read" in note or "mask" in note]
    files = find_mask_files("labels-csv", root, [row.path for row in manifest.rows])
    for number, (row, masks) in enumerate(zip(manifest.rows, files, strict=True)):
        mask = read_lesion_mask(root / row.path, SIZE, masks)
        assert mask is not None
        assert mask.sum() == (number + 1) * SIZE[0]


def test_masks_of_labels_csv_that_cannot_be_used_are_named_in_a_note(tmp_path: Path) -> None:
    root = make_masked_table(tmp_path)
    text = (root / "labels.csv").read_text()
    lines = text.replace("lesions\\benign-0.png", "lost.png").replace("lesions\\benign-1.png", "../x.png")
    lines = lines.replace("lesions\\benign-2.png", "scans/benign-3.png").replace("lesions\\benign-3.png", "n/a")
    (root / "labels.csv").write_text(lines)
    for number in range(4):
        (root / "lesions" / f"benign-{number}.png").unlink()
    manifest = labels_csv.read(root, "x")
    (note,) = [note for note in manifest.notes if "mask" in note]
    assert note == (
        "3 mask(s) that labels.csv names can't be used: row 2 (lost.png, missing or not an image file), "
        "row 3 (../x.png, outside the folder), row 4 (scans/benign-3.png, listed as an image)"
    )
    files = find_mask_files("labels-csv", root, [row.path for row in manifest.rows])
    assert [len(masks) for masks in files] == [0] * 4 + [1] * 11
