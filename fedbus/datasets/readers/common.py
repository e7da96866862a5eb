"""Shared by the readers: a dataset's image files, and faults in its table."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedbus.datasets.readers.listing import list_images
from fedbus.errors import ArchiveError, listed
from fedbus.patient_ids import is_unknown

_MASK = re.compile(r"_mask|(^|[\-. ])masks?([\-_. \d]|$)", re.IGNORECASE)


def image_files(folder: Path, *, nested: bool = False) -> list[Path]:
    """List the image files of a published dataset by name; `list_images` describes what is left out, and its errors.

    Stores of large files keep equal files once, with links of several names: every name counts.
    """
    return list_images(folder, nested=nested, once=False).images


def looks_like_mask(path: Path) -> bool:
    """Return whether an image's name, or a folder of its (relative) path, calls it a mask."""
    return any(_MASK.search(part) for part in (*path.parent.parts, path.stem))


def existing(masks: Sequence[Path]) -> list[tuple[Path, ...]]:
    """Return each mask in a tuple, or an empty one where there is no such file."""
    return [(mask,) if mask.is_file() else () for mask in masks]


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
    remedies = {
        "rows without a file": "Restore the missing files, or remove their rows.",
        "files without a row": "Add rows for the other files, or move them out of the folder.",
        "named more than once": "Leave one row for each image.",
    }
    if text:
        raise ArchiveError(
            f"{table} and the images beside it do not match: {text}.",
            " ".join(remedies[fault] for fault, names in faults.items() if names),
        )
