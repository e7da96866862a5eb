"""The column of `labels.csv` that names the file of each image's lesion mask."""

from collections.abc import Sequence

from fedbus.datasets.readers.file_names import forward_slashes, leaves_folder, match_names
from fedbus.datasets.readers.listing import Listing
from fedbus.datasets.readers.tables import Table
from fedbus.errors import listed
from fedbus.patient_ids import is_unknown


def find_masks(
    table: Table, column: int | None, listing: Listing, names: Sequence[str]
) -> tuple[list[str | None], list[str]]:
    """Find the mask of each row.

    Training needs no masks, so a mask that can't be used is not an error: a note names it.

    Args:
        table: The table.
        column: Position of the column with masks; None without one.
        listing: The images below the table's folder, masks included.
        names: The image of each row; an image can't be a mask as well.

    Returns:
        The path of each row's mask, relative to the folder, or None; and notes on masks that can't be used.
    """
    if column is None:
        return [None] * len(names), []
    cells = table.column(column)
    present = [path.relative_to(listing.folder).as_posix() for path in listing.images]
    written = match_names([forward_slashes(cell) for cell in cells], present)
    usable = set(present) - set(names)
    masks: list[str | None] = []
    faults = []
    for line, cell, name in zip(table.lines, cells, written, strict=True):
        empty = is_unknown(cell)
        masks.append(None if empty or name not in usable else name)
        if masks[-1] is None and not empty:
            faults.append(f"row {line} ({cell}, {_describe_fault(name, names)})")
    if not faults:
        return masks, []
    return masks, [f"{len(faults)} mask(s) that labels.csv names can't be used: {listed(faults)}"]


def _describe_fault(name: str, names: Sequence[str]) -> str:
    if leaves_folder(name):
        return "outside the folder"
    return "listed as an image" if name in names else "missing or not an image file"
