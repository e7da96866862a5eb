"""A hospital's own pictures, listed in labels.csv: file,label and, where known, patient; frame for DICOM."""

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
    """Tell whether a folder has a labels.csv."""
    return (root / "labels.csv").is_file()


def read(root: Path, site: str) -> Manifest:
    """Read the pictures that `labels.csv` lists, by paths relative to it.

    Every picture below root needs its row, and every row its picture; only files named like masks may stay
    unlisted, and a note counts them. Rows with an empty patient have none, but for DICOM files with a patient id:
    theirs is its pseudonym. A DICOM file may have a row for each of several frames, of one patient; `frame` counts
    from 1, and an empty one is the middle one.

    Raises:
        ArchiveError: a path that leads out of root, a file that is no picture, a mask listed as an image, an
            unknown label, a frame that can't be, rows and files that do not agree, several patients in one file, or
            fewer than two classes.
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
        notes.append(f"{patients.count(None)} rows name no patient; each counts as a patient of its own")
    return build_manifest(site, root, list(zip(paths, labels, patients, strict=True)), CENSUS, notes)


def _read_frames(table: Path, cells: list[tuple[int, str]], names: list[str]) -> list[int | None]:
    """The frame that each row names, counted from 1; None where it names none."""
    strange = [
        f"row {line} ({cell!r} of {name})"
        for (line, cell), name in zip(cells, names, strict=True)
        if cell
        and not (PurePosixPath(name).suffix.lower() == DICOM and cell.isascii() and cell.isdigit() and int(cell) > 0)
    ]
    if strange:
        raise ArchiveError(
            f"{table} names frames that can't be: {listed(strange)}.",
            f"Count the frames of {DICOM} files from 1, as viewers do; leave the column empty for all other files.",
        )
    return [int(cell) if cell else None for _, cell in cells]


def _check_files(table: Path, names: list[str], frames: list[int | None]) -> int:
    """Check that rows and files agree; returns the number of unlisted files named like masks."""
    present = [path.relative_to(table.parent) for path in image_files(table.parent, nested=True)]
    masks = {path for path in present if looks_like_mask(path)}
    listed_as: dict[str, list[str]] = {}
    for name, frame in zip(names, frames, strict=True):
        listed_as.setdefault(name, []).append(name if frame is None else f"{name}#{frame}")
    pictures = [path.as_posix() for path in present if path not in masks]
    check_rows_and_files(
        table,
        [row for rows in listed_as.values() for row in rows],
        [row for name in pictures for row in listed_as.get(name, [name])],
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
