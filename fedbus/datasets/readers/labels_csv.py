"""A site's own images, listed in a table.

    labels.csv          columns file (path relative to it), label; optional: patient, frame (of a DICOM file, from 1)
    any/name.png

Give the patient wherever it is known: images of one patient must stay together in a split.
"""

from pathlib import Path, PurePosixPath, PureWindowsPath

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.common import check_labels, check_rows_and_files, image_files, looks_like_mask, read_table
from fedbus.datasets.readers.dicom_patients import complete_patients, find_patients
from fedbus.errors import ArchiveError, listed
from fedbus.images.decode import DICOM, SUFFIXES

CENSUS: dict[str, int] | None = None
CITATION = "The hospital's own images."
TERMS = "The hospital's own."


def matches(root: Path) -> bool:
    """Return whether a folder has a labels.csv."""
    return (root / "labels.csv").is_file()


def read(root: Path, site: str) -> Manifest:
    """Read the images that `labels.csv` lists.

    Every image below root needs a row, and every row an image; only files named like masks may be unlisted, and a note
    counts them. Where the patient is empty, a DICOM file with a patient id gets its pseudonym; other rows have none. A
    DICOM file may have a row for each of several frames, all of one patient; an empty `frame` is the middle one.

    Raises:
        ArchiveError: If a path leads out of root, a file is not an image, a mask is listed as an image, a label is
            unknown, a frame is impossible, rows and files do not match, a file has several patients, or there are fewer
            than two classes.
    """
    table = root / "labels.csv"
    rows = read_table(table, ("file", "label"))
    # Spreadsheets on Windows write backslashes.
    names = [PurePosixPath(row["file"].replace("\\", "/")).as_posix() for _, row in rows]
    _check_names(table, [line for line, _ in rows], names)
    labels = [row["label"].lower() for _, row in rows]
    unknown = [(line, row["label"]) for line, row in rows if row["label"].lower() not in CLASSES]
    check_labels(table, unknown, CLASSES)

    frames = _read_frames(table, [(line, row.get("frame", "")) for line, row in rows], names)
    masks = _check_files(table, names, frames)

    paths = [root / (name if frame is None else f"{name}#{frame}") for name, frame in zip(names, frames, strict=True)]
    named = [row.get("patient") or None for _, row in rows]
    known, notes = find_patients(root, paths, site)
    patients = complete_patients(table, paths, named, known)
    notes = notes if None in named else []
    if masks:
        notes.append(f"{masks} files named like masks are left out")
    if None in patients and any(patients):
        notes.append(f"{patients.count(None)} rows name no patient; each counts as a separate patient")
    return build_manifest(site, root, list(zip(paths, labels, patients, strict=True)), CENSUS, notes)


def _read_frames(table: Path, cells: list[tuple[int, str]], names: list[str]) -> list[int | None]:
    """The frame that each row names, counted from 1; None if it names none."""
    strange = [
        f"row {line} ({cell!r} of {name})"
        for (line, cell), name in zip(cells, names, strict=True)
        if cell
        and not (PurePosixPath(name).suffix.lower() == DICOM and cell.isascii() and cell.isdigit() and int(cell) > 0)
    ]
    if strange:
        raise ArchiveError(
            f"{table} names impossible frames: {listed(strange)}.",
            f"Count the frames of {DICOM} files from 1, as viewers do; leave the column empty for all other files.",
        )
    return [int(cell) if cell else None for _, cell in cells]


def _check_files(table: Path, names: list[str], frames: list[int | None]) -> int:
    """Check that rows and files match; return the number of unlisted files named like masks."""
    present = [path.relative_to(table.parent) for path in image_files(table.parent, nested=True)]
    masks = {path for path in present if looks_like_mask(path)}
    listed_as: dict[str, list[str]] = {}
    for name, frame in zip(names, frames, strict=True):
        listed_as.setdefault(name, []).append(name if frame is None else f"{name}#{frame}")
    image_names = [path.as_posix() for path in present if path not in masks]
    check_rows_and_files(
        table,
        [row for rows in listed_as.values() for row in rows],
        [row for name in image_names for row in listed_as.get(name, [name])],
    )
    return len(masks)


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
            f"{table} names files that are not images: {listed(strange)}.", f"Use {', '.join(SUFFIXES)}."
        )
    masks = [f"row {line} ({name})" for line, name in rows if looks_like_mask(Path(name))]
    if masks:
        raise ArchiveError(
            f"{table} lists {len(masks)} masks as images: {listed(masks)}.",
            "Remove their rows; if they are images, rename them.",
        )


def _leaves_root(name: str) -> bool:
    windows = PureWindowsPath(name)
    return ".." in windows.parts or bool(windows.root or windows.drive)
