"""Shared by the readers: find a dataset's folder and its image files, and faults in its table."""

import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from fedbus.errors import ArchiveError, listed
from fedbus.images.decode import SUFFIXES
from fedbus.patient_ids import is_unknown

DEPTH = 3
"""How many levels below the named folder a dataset is searched for: unpacking often nests its outer folder."""

_MASK = re.compile(r"_mask|(^|[\-. ])masks?([\-_. \d]|$)", re.IGNORECASE)


def image_files(folder: Path, *, nested: bool = False) -> list[Path]:
    """List the image files of a folder by name, without the hidden files that macOS leaves behind."""
    found = folder.rglob("*") if nested else folder.iterdir()
    return sorted(
        path
        for path in found
        if path.suffix.lower() in SUFFIXES and not path.is_dir() and not _is_hidden(path.relative_to(folder))
    )


def looks_like_mask(path: Path) -> bool:
    """Return whether an image's name, or a folder of its (relative) path, calls it a mask."""
    return any(_MASK.search(part) for part in (*path.parent.parts, path.stem))


def find_folders(root: Path, recognises: Callable[[Path], bool]) -> list[Path]:
    """List the folders with a layout, on the first level (at most `DEPTH` below root) that has any."""
    level = [root]
    for _ in range(DEPTH + 1):
        found = [folder for folder in level if recognises(folder)]
        if found:
            return found
        level = [below for folder in level for below in _subfolders(folder)]
    return []


def find_folder(root: Path, recognises: Callable[[Path], bool], expected: str) -> Path:
    """Return the only folder with a layout.

    Args:
        root: The folder that the user named.
        recognises: Function that returns whether a folder has the layout.
        expected: The layout in words, for the error.

    Raises:
        ArchiveError: If no folder, or more than one, has the layout.
    """
    found = find_folders(root, recognises)
    if not found:
        raise ArchiveError(f"{root} does not contain {expected}.", "Check the path and the reader.")
    if len(found) > 1:
        raise ArchiveError(
            f"{root} contains {len(found)} copies of one dataset: {listed(found)}.", "Name one of these folders."
        )
    return found[0]


def check_labels(table: Path, unknown: Sequence[tuple[int, str]], allowed: Sequence[str]) -> None:
    """Raise ArchiveError for unknown (row, label) of a table, naming all of them."""
    if unknown:
        rows = listed([f"row {line} ({label!r})" for line, label in unknown])
        remedy = f"Use {', '.join(allowed)}."
        if any(is_unknown(label) for _, label in unknown):
            remedy += " An image of unknown class can't be used: remove its row, and move its file out of the folder."
        raise ArchiveError(f"{table} has unknown labels: {rows}.", remedy)


def check_rows_and_files(table: Path, named: Sequence[str], present: Sequence[str]) -> None:
    """Check that a table and a folder contain the same images, each once.

    Args:
        table: The table's file, for the message.
        named: The images that its rows name.
        present: The images on disk, named the same way.

    Raises:
        ArchiveError: If there are rows without a file, files without a row, or images named twice; all are listed.
    """
    faults = {
        "rows without a file": sorted(set(named) - set(present)),
        "files without a row": sorted(set(present) - set(named)),
        "named more than once": sorted(name for name, count in Counter(named).items() if count > 1),
    }
    text = "; ".join(f"{len(names)} {fault}: {listed(names)}" for fault, names in faults.items() if names)
    if text:
        raise ArchiveError(
            f"{table} and the images beside it do not match: {text}.",
            "Unpack the dataset again, or correct the table.",
        )


def _is_hidden(relative: Path) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in relative.parts)


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names if not _is_hidden(Path(name))]
