"""Image files and the table that lists them: rows that name other files, links, and images that no row names."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from fedbus.datasets.readers.common import looks_like_mask
from fedbus.errors import ArchiveError, ImageError, listed
from fedbus.images.decode import decode_image
from fedbus.images.file_kind import IMAGE, SUFFIXES, find_kind
from fedbus.images.masks import has_mask_greys

ENOUGH_IMAGES = 20
"""After this many unlisted images that are no masks, the others are not decoded: the dataset is refused anyway."""


def check_kinds(table: Path, lines: Sequence[int], names: Sequence[str]) -> None:
    """Check that the files that a table names are images, as far as they exist.

    Args:
        table: The table's file.
        lines: The line of each row, for the error.
        names: The path that each row names, relative to the table's folder.

    Raises:
        ArchiveError: If a row names a file of another kind, or a missing one with an ending that no image has.
    """
    strange = [
        f"row {line} ({name})"
        for line, name in zip(lines, names, strict=True)
        if not _may_be_image(table.parent / name)
    ]
    if strange:
        raise ArchiveError(
            f"{table} names files that are not images: {listed(strange)}.",
            f"Use {', '.join(SUFFIXES)}; DICOM with preamble may have any ending.",
        )


def follow_links(root: Path, names: Sequence[str], present: Sequence[Path]) -> list[str]:
    """Give each name the path under which its file is listed, if it leads there through links.

    Args:
        root: The dataset's folder.
        names: Paths relative to root that a table names.
        present: Paths of the images relative to root, each real file once.
    """
    known = {path.as_posix() for path in present}
    others = {name for name in names if name not in known and (root / name).exists()}
    if not others:
        return list(names)
    listed_as = {os.path.realpath(root / path): path.as_posix() for path in present}
    return [listed_as.get(os.path.realpath(root / name), name) if name in others else name for name in names]


def leave_out_masks(root: Path, present: Sequence[Path], names: Sequence[str]) -> tuple[list[Path], list[str]]:
    """Leave out unlisted images that are masks by their name, or else by their grey values.

    Args:
        root: The dataset's folder.
        present: Paths of the images relative to root.
        names: Paths relative to root that the table names.

    Returns:
        The other images, listed or not; and notes that count the masks.
    """
    rows = set(names)
    named = {path for path in present if path.as_posix() not in rows and looks_like_mask(path)}
    unlisted = [path for path in present if path.as_posix() not in rows and path not in named]
    flat = _find_masks(root, unlisted)
    notes = [f"{len(named)} files named like masks are left out"] if named else []
    if flat:
        notes.append(f"{len(flat)} unlisted file(s) with the grey values of a mask are left out: {listed(flat)}")
    return [path for path in present if path not in named and path not in flat], notes


def _find_masks(root: Path, unlisted: Sequence[Path]) -> list[Path]:
    masks: list[Path] = []
    images = 0
    for path in unlisted:
        if _is_mask(root / path):
            masks.append(path)
        else:
            images += 1
        if images > ENOUGH_IMAGES:
            break
    return masks


def _is_mask(path: Path) -> bool:
    try:
        return has_mask_greys(decode_image(path))
    except ImageError:
        return False


def _may_be_image(path: Path) -> bool:
    if path.is_file():
        return find_kind(path) == IMAGE
    suffix = PurePosixPath(path).suffix.lower()
    return suffix in ("", *SUFFIXES) or suffix[1:].isdigit()
