"""Shared by the readers: find the folder with a dataset's layout, at or below the folder that the user named."""

import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from fedbus.datasets.readers.listing import has_images, is_hidden
from fedbus.errors import ArchiveError, listed

DEPTH = 3
"""How many levels below the named folder a dataset is searched for: unpacking often nests its outer folder."""

_SPLIT = re.compile(
    r"(train|training|val|valid|validation|dev|test|testing|holdout|(fold|split)[-_ ]?\d+)([-_ ](set|data|images))?",
    re.IGNORECASE,
)


def find_folders(root: Path, recognises: Callable[[Path], bool]) -> list[Path]:
    """List the folders with a layout, on the first level (at most `DEPTH` below root) that has any.

    Links to folders are followed; a folder that several of them lead to is listed once.
    """
    level = [root]
    for _ in range(DEPTH + 1):
        found = [folder for folder in level if recognises(folder)]
        if found:
            return found
        level = _distinct([below for folder in level for below in _subfolders(folder)])
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
    refuse_splits(root, found)
    if len(found) > 1:
        raise ArchiveError(
            f"{root} contains {len(found)} copies of one dataset: {listed(found)}.", "Name one of these folders."
        )
    return found[0]


def refuse_splits(root: Path, found: Sequence[Path], *, nested: bool = False) -> None:
    """Refuse a dataset that somebody has cut into training, validation and test.

    Args:
        root: The folder that the user named.
        found: The folders with the dataset's layout, at or below root.
        nested: Whether the reader also reads folders below the class folders, so that names need not be unique.

    Raises:
        ArchiveError: If any of the folders below root is called `train`, `test`, `fold1` or the like.
    """
    cut = [folder for folder in found if split_names(folder.relative_to(root))]
    if not cut:
        return
    others = [
        path
        for path in _subfolders(root)
        if _SPLIT.fullmatch(path.name) and not any(folder.is_relative_to(path) for folder in found) and has_images(path)
    ]
    if len(found) + len(others) < 2:
        return
    names = listed([folder.relative_to(root).as_posix() for folder in (*found, *others)])
    if any(path.suffix.lower() == ".csv" for folder in found for path in folder.iterdir()):
        remedy = "Put their images into one folder with one table, as before they were cut"
    else:
        remedy = _merge(root, found, nested)
    raise ArchiveError(
        f"{root} is a dataset that was cut into splits: {names}. Splits made elsewhere may have images of one patient "
        "on both sides, and are never used.",
        f"{remedy}. Or name one of these folders, to leave out the others.",
    )


def refuse_folders_below(root: Path, found: Sequence[Path], what: str) -> None:
    """Refuse a folder above the one with a layout: which of several it stands for is unknown.

    Args:
        root: The folder that the user named.
        found: The folders with the layout, at or below root.
        what: What these folders contain, for the error.

    Raises:
        ArchiveError: If there are any, and root is none of them.
    """
    if not found or root in found:
        return
    refuse_splits(root, found, nested=True)
    raise ArchiveError(
        f"{root} contains no {what} directly, only in {listed(list(found))}.",
        "Name that folder." if len(found) == 1 else "Name one of these folders, or merge them.",
    )


def _merge(root: Path, found: Sequence[Path], nested: bool) -> str:
    """The remedy that merges folders of class folders into one."""
    target = root.resolve().with_name(f"{root.resolve().name}-merged")
    merged = shlex.quote(str(target))
    if nested:
        names = " ".join(shlex.quote(folder.relative_to(root).as_posix()) for folder in found)
        command = (
            f'cd {shlex.quote(str(root))} && for s in {names}; do for c in "$s"/*/; do '
            f'd={merged}/$(basename "$c")/"$s"; mkdir -p "$d" && cp -r "$c". "$d"; done; done'
        )
    else:
        command = f"mkdir {merged} && cp -rn {' '.join(shlex.quote(f'{folder}/.') for folder in found)} {merged}"
    return f"Merge them: {command}; then name {target}"


def split_names(relative: Path) -> list[str]:
    """Return the parts of a path that name a split, as `train` and `test` do."""
    return [part for part in relative.parts if _SPLIT.fullmatch(part)]


def _subfolders(folder: Path) -> list[Path]:
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if entry.is_dir())
    return [folder / name for name in names if not is_hidden(name)]


def _distinct(folders: Sequence[Path]) -> list[Path]:
    """Each real folder once: itself, not a link to it."""
    links_first = sorted(folders, key=lambda folder: not folder.is_symlink())
    return sorted({folder.resolve(): folder for folder in links_first}.values())
