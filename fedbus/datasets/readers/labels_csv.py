"""A site's own images, listed in a table.

    labels.csv          columns file (path relative to it), label; optional: patient, frame (of a DICOM file, from 1),
                        mask (the file of the lesion mask, relative to labels.csv too)
    any/name.png

Give the patient wherever it is known: images of one patient must stay together in a split. `columns.py` has the other
names that columns may have, and `tables.py` the ways in which the table may be saved.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.datasets.manifest import Manifest, build_manifest
from fedbus.datasets.readers.columns import Columns, find_columns, is_known
from fedbus.datasets.readers.common import check_labels, check_rows_and_files, looks_like_mask
from fedbus.datasets.readers.dicom_patients import complete_patients, find_patients
from fedbus.datasets.readers.file_names import forward_slashes, leaves_folder, match_names
from fedbus.datasets.readers.folders import find_folders, refuse_folders_below
from fedbus.datasets.readers.listing import Listing, list_images
from fedbus.datasets.readers.mask_column import find_masks
from fedbus.datasets.readers.tables import Table, parse_table
from fedbus.datasets.readers.unlisted import check_kinds, follow_links, leave_out_masks
from fedbus.errors import ArchiveError, listed
from fedbus.images.file_kind import is_dicom
from fedbus.patient_ids import is_unknown

CENSUS: dict[str, int] | None = None
CITATION = "The hospital's own images."
TERMS = "The hospital's own."

TABLE = "labels.csv"
OTHER_TABLES = (".csv", ".tsv", ".txt", ".xls", ".xlsx", ".ods", ".numbers")

_WHOLE = re.compile(r"(?<=\d)\.0+$")


def matches(root: Path) -> bool:
    """Return whether a folder has a labels.csv."""
    return _table_of(root).is_file()


def read(root: Path, site: str) -> Manifest:
    """Read the images that `labels.csv` lists.

    Every image below root needs a row, and every row an image; only masks may be unlisted, and a note counts them, as
    it does files that are not images. Where the patient is empty or means unknown, a DICOM file with a patient id gets
    its pseudonym; other rows have none. A DICOM file may have a row for each of several frames, all of one patient; an
    empty `frame` is the middle one. Columns that are not read are named in a note.

    Raises:
        ArchiveError: If the table can't be read or lacks a column, a path leads out of root, a file is not an image, a
            mask is listed as an image, a label is unknown, a frame is impossible, rows and files do not match, a file
            has several patients, or there are fewer than two classes.
    """
    rows = _read_rows(root)
    table, columns, listing = rows.table, rows.columns, rows.listing
    masks, unusable = find_masks(table, columns.mask, listing, rows.names)
    others = [path for path in rows.in_folder if path.as_posix() not in set(filter(None, masks))]
    present, mask_notes = leave_out_masks(root, others, rows.names)
    _check_files(table.path, present, rows.names, rows.frames)

    paths = [root / path for path in rows.paths]
    patients, notes = _read_patients(table, columns.patient, paths, site)
    notes = [*columns.notes, *notes, *unusable, *mask_notes, *listing.notes]
    return build_manifest(site, root, list(zip(paths, rows.labels, patients, strict=True)), CENSUS, notes)


def mask_files(root: Path, paths: Sequence[str]) -> list[tuple[Path, ...]]:
    """Return the mask that the column `mask` names for each image; none where it is empty or can't be used."""
    rows = _read_rows(root)
    masks, _ = find_masks(rows.table, rows.columns.mask, rows.listing, rows.names)
    mask_of = {path: (root / mask,) for path, mask in zip(rows.paths, masks, strict=True) if mask}
    return [mask_of.get(path, ()) for path in paths]


def attributes(root: Path, paths: Sequence[str]) -> dict[str, list[str]]:
    """Return the cells of every column that is not read, for each image."""
    rows = _read_rows(root)
    found = {
        rows.table.header[i]: dict(zip(rows.paths, rows.table.column(i), strict=True)) for i in rows.columns.others
    }
    return {name: [cells.get(path, "") for path in paths] for name, cells in found.items()}


@dataclass(frozen=True)
class _Rows:
    """The rows of a table, and the images below its folder.

    Attributes:
        table: The table.
        columns: Where it has what is read.
        labels: The class of each row.
        names: The file of each row, relative to the folder, as it is listed there.
        frames: The frame that each row names.
        listing: The images below the folder.
    """

    table: Table
    columns: Columns
    labels: list[str]
    names: list[str]
    frames: list[int | None]
    listing: Listing

    @property
    def paths(self) -> list[str]:
        """The path of each row in the manifest: its file, and the frame if one is named."""
        rows = zip(self.names, self.frames, strict=True)
        return [name if frame is None else f"{name}#{frame}" for name, frame in rows]

    @property
    def in_folder(self) -> list[Path]:
        """The images below the folder, relative to it."""
        return [path.relative_to(self.listing.folder) for path in self.listing.images]


def _read_rows(root: Path) -> _Rows:
    """Read the table and list the folder; errors as `read`."""
    refuse_folders_below(root, find_folders(root, matches), TABLE)
    path = _table_of(root)
    _check_exists(path)
    table = parse_table(path, ("file", "label"), is_known)
    columns = find_columns(table)
    names = [forward_slashes(cell) for cell in table.column(columns.file)]
    _check_names(path, table.lines, names)
    written = table.column(columns.label)
    labels = [label.lower() for label in written]
    unknown = [(line, label) for line, label in zip(table.lines, written, strict=True) if label.lower() not in CLASSES]
    check_labels(path, unknown, CLASSES)

    listing = list_images(root)
    in_folder = [each.relative_to(root) for each in listing.images]
    names = follow_links(root, match_names(names, [each.as_posix() for each in in_folder]), in_folder)
    return _Rows(table, columns, labels, names, _read_frames(table, columns.frame, names), listing)


def _table_of(root: Path) -> Path:
    """The table of a folder, in whatever case its name is written."""
    named = [path for path in root.iterdir() if path.name.lower() == TABLE] if root.is_dir() else []
    return named[0] if len(named) == 1 else root / TABLE


def _check_exists(table: Path) -> None:
    """Name the tables of other formats that are beside a missing one."""
    others = sorted(path.name for path in table.parent.iterdir() if path.suffix.lower() in OTHER_TABLES)
    if others and not table.exists():
        raise ArchiveError(
            f"{table} does not exist, but {listed(others)}.",
            f"Save the table of images as 'CSV UTF-8' under the name {TABLE}.",
        )


def _read_patients(
    table: Table, column: int | None, paths: Sequence[Path], site: str
) -> tuple[list[str | None], list[str]]:
    """The patient of each row, from the table or else from its DICOM file; and notes on unknown ones."""
    cells = [""] * len(paths) if column is None else table.column(column)
    named = [None if is_unknown(cell) else cell for cell in cells]
    known, notes = find_patients(table.path.parent, paths, site)
    patients = complete_patients(table.path, paths, named, known)
    notes = notes if None in named else []
    lost = [cell for cell, patient in zip(cells, patients, strict=True) if patient is None]
    if lost and (any(patients) or any(lost)):
        marked = ", ".join(f"{marker!r} {count}" for marker, count in Counter(filter(None, lost)).most_common())
        notes.append(
            f"{len(lost)} rows name no patient{f' ({marked})' if marked else ''}; each counts as a separate patient"
        )
    return patients, notes


def _read_frames(table: Table, column: int | None, names: list[str]) -> list[int | None]:
    """The frame that each row names, counted from 1; None if it names none. Spreadsheets write 3 as 3.0."""
    cells = [""] * len(names) if column is None else [_WHOLE.sub("", cell) for cell in table.column(column)]
    cells = ["" if is_unknown(cell) and not any(map(str.isdigit, cell)) else cell for cell in cells]
    strange = [
        f"row {line} ({cell!r} of {name})"
        for line, cell, name in zip(table.lines, cells, names, strict=True)
        if cell and not (is_dicom(table.path.parent / name) and cell.isascii() and cell.isdigit() and int(cell) > 0)
    ]
    if strange:
        raise ArchiveError(
            f"{table.path} names impossible frames: {listed(strange)}.",
            "Count the frames of DICOM files from 1, as viewers do; leave the column empty for all other files.",
        )
    return [int(cell) if cell else None for cell in cells]


def _check_files(table: Path, present: list[Path], names: list[str], frames: list[int | None]) -> None:
    """Check that rows and files match."""
    listed_as: dict[str, list[str]] = {}
    for name, frame in zip(names, frames, strict=True):
        listed_as.setdefault(name, []).append(name if frame is None else f"{name}#{frame}")
    check_rows_and_files(
        table,
        [row for rows in listed_as.values() for row in rows],
        [row for path in present for row in listed_as.get(path.as_posix(), [path.as_posix()])],
    )


def _check_names(table: Path, lines: list[int], names: list[str]) -> None:
    rows = list(zip(lines, names, strict=True))
    escaping = [f"row {line} ({name})" for line, name in rows if leaves_folder(name)]
    if escaping:
        raise ArchiveError(
            f"{table} names files outside its folder: {listed(escaping)}.",
            "Give paths relative to labels.csv, without '..'.",
        )
    check_kinds(table, lines, names)
    masks = [f"row {line} ({name})" for line, name in rows if looks_like_mask(Path(name))]
    if masks:
        raise ArchiveError(
            f"{table} lists {len(masks)} masks as images: {listed(masks)}.",
            "Remove their rows; if they are images, rename them.",
        )
