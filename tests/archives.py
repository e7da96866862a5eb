"""Small datasets in the published layouts, with masks and official names, filled with noise: for tests only.

Every builder returns the folder to pass to the reader. The images are independent noise, so their 256-bit
difference hashes are about 128 bits apart.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from openpyxl import Workbook
from PIL import Image

COUNTS = {"benign": 6, "malignant": 5, "normal": 4}
LESIONS = {"benign": 6, "malignant": 5}
HOSPITALS = {"GDPH": {"benign": 3, "malignant": 2}, "SYSUCC": {"benign": 3, "malignant": 4}}
SIZE = (48, 40)


def make_image(generator: np.random.Generator, size: tuple[int, int] = SIZE) -> Image.Image:
    """Grey noise of `size` (width, height)."""
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0]), dtype=np.uint8))


def make_busi(root: Path, counts: Mapping[str, int] = COUNTS, seed: int = 0) -> Path:
    """`root/Dataset_BUSI_with_GT/benign/benign (1).png`, with `_mask.png`, and one `_mask_1.png` per class."""
    generator = np.random.default_rng(seed)
    for label, count in counts.items():
        folder = root / "Dataset_BUSI_with_GT" / label
        folder.mkdir(parents=True)
        for i in range(1, count + 1):
            make_image(generator).save(folder / f"{label} ({i}).png")
            _make_mask().save(folder / f"{label} ({i})_mask.png")
        _make_mask().save(folder / f"{label} (1)_mask_1.png")
    return root


def make_bus_uclm(root: Path, counts: Mapping[str, int] = COUNTS, seed: int = 0) -> Path:
    """`root/BUS-UCLM/{images,masks}/PAAA_000.png` and `INFO.csv`; a patient has two images of one class."""
    generator, folder = np.random.default_rng(seed), root / "BUS-UCLM"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for initial, (label, count) in zip("PQR", counts.items(), strict=False):
        for i in range(count):
            name = f"{initial}AA{chr(ord('A') + i // 2)}_{i % 2:03d}.png"
            make_image(generator).save(folder / "images" / name)
            _make_mask().save(folder / "masks" / name)
            rows.append((name, "48x40", label.capitalize(), "No", "No" if i == 0 else "Yes", "No"))
    header = ("Image", "Resolution", "Label", "Doppler", "Marks", "Combined")
    write_table(folder / "INFO.csv", header, rows, delimiter=";", encoding="utf-8-sig")
    return root


def make_gdph_sysucc(
    root: Path, layout: str = "a", counts: Mapping[str, Mapping[str, int]] = HOSPITALS, seed: int = 0
) -> Path:
    """`root/GDPH&SYSUCC` in layout a (`label.csv`, `img/`) or b (`GDPH/`, `SYSUCC/`, the workbook)."""
    generator, folder = np.random.default_rng(seed), root / "GDPH&SYSUCC"
    first = {"GDPH": {"benign": 443, "malignant": 1116}, "SYSUCC": {"benign": 0, "malignant": 0}}
    names = []
    for hospital, classes in counts.items():
        place = folder / ("img" if layout == "a" else hospital)
        place.mkdir(parents=True, exist_ok=True)
        for label, count in classes.items():
            for i in range(count):
                names.append(f"{label}({first[hospital][label] + i})")
                make_image(generator).save(place / f"{names[-1]}.png")
    if layout == "a":
        rows = [(f"{name}.png", int(name.startswith("malignant"))) for name in names]
        write_table(folder / "label.csv", ("name", "label"), rows)
    else:
        write_workbook(folder / "BIRADS&FOLD.xlsx", names)
    return root


def make_bus_bra(root: Path, counts: Mapping[str, int] = LESIONS, seed: int = 0) -> Path:
    """`root/BUSBRA/{Images,Masks}` and `bus_data.csv`; a case has a left and a right view."""
    generator, folder = np.random.default_rng(seed), root / "BUSBRA"
    (folder / "Images").mkdir(parents=True)
    (folder / "Masks").mkdir()
    rows, case = [], 0
    for label, count in counts.items():
        for i in range(count):
            case += i % 2 == 0
            name = f"{case:04d}-{'lr'[i % 2]}"
            make_image(generator).save(folder / "Images" / f"bus_{name}.png")
            _make_mask().save(folder / "Masks" / f"mask_{name}.png")
            side = ("left", "right")[i % 2]
            rows.append((f"bus_{name}", case, "cyst, simple", label, 4, "Scanner @10MHz", 48, 40, side, "[1,2,3,4]"))
    header = ("ID", "Case", "Histology", "Pathology", "BIRADS", "Device", "Width", "Height", "Side", "BBOX")
    write_table(folder / "bus_data.csv", header, rows)
    return root


def make_class_folders(root: Path, counts: Mapping[str, int] = COUNTS, seed: int = 0) -> Path:
    """`root/Benign/0.png`: a site's own images, no masks."""
    generator = np.random.default_rng(seed)
    for label, count in counts.items():
        folder = root / label.capitalize()
        folder.mkdir(parents=True)
        for i in range(count):
            make_image(generator).save(folder / f"{i}.png")
    return root


def make_labels_csv(
    root: Path,
    counts: Mapping[str, int] = COUNTS,
    seed: int = 0,
    *,
    patients: bool = True,
    delimiter: str = ",",
) -> Path:
    """`root/labels.csv` and `root/scans/benign-0.png`; two images per patient."""
    generator = np.random.default_rng(seed)
    (root / "scans").mkdir(parents=True)
    rows = []
    for label, count in counts.items():
        for i in range(count):
            name = f"scans/{label}-{i}.png"
            make_image(generator).save(root / name)
            rows.append((name, label, f"{label}{i // 2}"))
    header = ("file", "label", "patient")
    kept = 3 if patients else 2
    write_table(root / "labels.csv", header[:kept], [row[:kept] for row in rows], delimiter=delimiter)
    return root


def write_table(
    path: Path,
    header: Sequence[str],
    rows: Sequence[Sequence[object]],
    delimiter: str = ",",
    encoding: str = "utf-8",
) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file, delimiter=delimiter, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def write_workbook(path: Path, names: Sequence[str]) -> None:
    """Write GDPH&SYSUCC's workbook for images of these names (without `.png`)."""
    book = Workbook()
    sheet = book.active
    sheet.title = "prediction"
    sheet.append(["ID", "BIRADS-reader1", "BIRADS-reader2", "fold"])
    for i, name in enumerate(names):
        sheet.append([name, "4a", "3", i % 5])
    book.save(path)


def _make_mask() -> Image.Image:
    pixels = np.zeros((SIZE[1], SIZE[0]), dtype=np.uint8)
    pixels[10:20, 10:30] = 255
    return Image.fromarray(pixels).convert("1")
