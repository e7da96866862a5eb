"""The values of one attribute as groups: few enough that each can have patients."""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from fedbus.patient_ids import canonical, is_unknown
from fedbus.text import plain_text

MOST_NUMBERS = 6
"""A column of more different numbers is cut into tertiles; fewer, such as BI-RADS categories, stay as they are."""

MOST_VALUES = 20
"""A column with more different values is not used: nearly all groups would be too small to report."""

MOST_CHARACTERS = 60
"""Length of a value in reports."""

_NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)")


def group_values(column: str, cells: Sequence[str], kept: Sequence[str] = ()) -> tuple[list[str] | None, str]:
    """Turn the cells of a column into groups.

    Values that differ only in form, such as `GE` and `ge`, or `4` and `4.0`, are one group. More than `MOST_NUMBERS`
    different numbers are cut into tertiles of all cells, so that every split and fold has the same groups.

    Args:
        column: Name of the column, for the note.
        cells: The cell of each image.
        kept: Cells that are groups beside the numbers.

    Returns:
        The group of each image, empty where unknown; or None and a note that says why the column is not used.
    """
    known = [cell for cell in cells if not _is_unknown(cell) and cell not in kept]
    forms: dict[str, Counter[str]] = {}
    for cell in known:
        forms.setdefault(canonical(cell), Counter())[plain_text(cell, MOST_CHARACTERS)] += 1
    if not forms:
        return None, f"the column {column} has no known value, so it gives no subgroups"
    if len(forms) > MOST_NUMBERS and all(_NUMBER.fullmatch(cell) for cell in known):
        names = dict(zip(known, _tertiles([float(cell.replace(",", ".")) for cell in known]), strict=True))
    elif len(forms) > MOST_VALUES:
        return None, (
            f"the column {column} has {len(forms)} different values, so it gives no subgroups (the most is "
            f"{MOST_VALUES}): write fewer, broader values, or numbers only, which are cut into thirds"
        )
    else:
        names = {cell: forms[canonical(cell)].most_common(1)[0][0] for cell in known}
    return [cell if cell in kept else names.get(cell, "") for cell in cells], ""


def natural_order(value: str) -> list[tuple[int, float, str]]:
    """Return a key that sorts groups as readers expect: numbers by size; `1 or less`, `1 to 2`, `over 2`."""
    parts = re.split(r"(\d+(?:\.\d+)?)", value.casefold())
    return [(1, float(part), "") if i % 2 else (0, 0.0, part) for i, part in enumerate(parts)]


def _is_unknown(cell: str) -> bool:
    """Whether a cell means unknown; unlike a patient's id, an attribute may be `none`."""
    return is_unknown(cell) and cell.casefold() != "none"


def _tertiles(numbers: Sequence[float]) -> list[str]:
    """The third that each number is in. Bounds are rounded to three digits first, so that names are exact."""
    low, high = (float(f"{bound:.3g}") for bound in np.quantile(numbers, (1 / 3, 2 / 3)))
    names = (f"{low:g} or less", f"{low:g} to {high:g}", f"over {high:g}")
    return [names[int(number > low) + int(number > high)] for number in numbers]
