"""A hospital's own pictures, listed in labels.csv: file,label and, where known, patient."""

from pathlib import Path, PurePosixPath, PureWindowsPath

from fedbus.datasets.layout import (
    check_labels,
    check_rows_and_files,
    image_files,
    looks_like_mask,
    read_table,
)
from fedbus.errors import ArchiveError, listed
from fedbus.images import SUFFIXES
from fedbus.manifest import CLASSES, Manifest, build_manifest

CENSUS: dict[str, int] | None = None
CITATION = "The hospital's own images."
TERMS = "The hospital's own."


def matches(root: Path) -> bool:
    """Tell whether a folder has a labels.csv."""
    return (root / "labels.csv").is_file()


def read(root: Path, site: str) -> Manifest:
    """Read the pictures that `labels.csv` lists, by paths relative to it.

    Every picture below root needs its row, and every row its picture; only files named like masks may stay
    unlisted, and a note counts them. Rows with an empty patient have none.

    Raises:
        ArchiveError: a path that leads out of root, a file that is no picture, a mask listed as an image, an
            unknown label, rows and files that do not agree, or fewer than two classes.
    """
    table = root / "labels.csv"
    rows = read_table(table, ("file", "label"))
    # Spreadsheets on Windows write backslashes.
    names = [PurePosixPath(row["file"].replace("\\", "/")).as_posix() for _, row in rows]
    _check_names(table, [line for line, _ in rows], names)
    labels = [row["label"].lower() for _, row in rows]
    unknown = [(line, row["label"]) for line, row in rows if row["label"].lower() not in CLASSES]
    check_labels(table, unknown, CLASSES)

    present = [path.relative_to(root) for path in image_files(root, nested=True)]
    masks = [path for path in present if looks_like_mask(path)]
    check_rows_and_files(table, names, [path.as_posix() for path in present if path not in set(masks)])

    patients = [row.get("patient") or None for _, row in rows]
    notes = [f"{len(masks)} files named like masks are left out"] if masks else []
    if None in patients and any(patients):
        notes.append(f"{patients.count(None)} rows name no patient; each counts as a patient of its own")
    found = [(root / name, label, patient) for name, label, patient in zip(names, labels, patients, strict=True)]
    return build_manifest(site, root, found, CENSUS, notes)


def _check_names(table: Path, lines: list[int], names: list[str]) -> None:
    rows = list(zip(lines, names, strict=True))
    escaping = [f"row {line} ({name})" for line, name in rows if _leaves_root(name)]
    if escaping:
        raise ArchiveError(
            f"{table} names files outside its folder: {listed(escaping)}.",
            "Give paths relative to labels.csv, without '..'.",
        )
    strange = [f"row {line} ({name})" for line, name in rows if PurePosixPath(name).suffix.lower() not in SUFFIXES]
    if strange:
        raise ArchiveError(
            f"{table} names files that are no pictures: {listed(strange)}.", f"Use {', '.join(SUFFIXES)}."
        )
    masks = [f"row {line} ({name})" for line, name in rows if looks_like_mask(Path(name))]
    if masks:
        raise ArchiveError(
            f"{table} lists {len(masks)} masks as images: {listed(masks)}.",
            "Take their rows out; if they are images, rename them.",
        )


def _leaves_root(name: str) -> bool:
    windows = PureWindowsPath(name)
    return ".." in windows.parts or bool(windows.root or windows.drive)
