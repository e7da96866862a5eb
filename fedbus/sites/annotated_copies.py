"""Annotated copies of images: near-duplicates whose name is that of an image with a word added."""

import re
from collections.abc import Sequence
from pathlib import Path

from fedbus.datasets.manifest import Row
from fedbus.errors import listed
from fedbus.images.decode import split_frame
from fedbus.sites.groups import Pair

_ADDED_WORD = re.compile(r"[-_. (\[]+[a-z]{3,}.*")


def annotated_copies_note(rows: Sequence[Row], pairs: Sequence[Pair]) -> list[str]:
    """Note copies such as `x_overlay` beside `x`: a lesion's outline in them gives the answer away.

    Args:
        rows: Rows of the dataset.
        pairs: Near-duplicates among them, identical images included.

    Returns:
        One note, or none if there is no such copy.
    """
    copies = {copy for pair in pairs if (copy := _find_copy(rows[pair.first].path, rows[pair.second].path))}
    if not copies:
        return []
    return [
        f"{len(copies)} image(s) are near-duplicates of an image whose name theirs extends, as annotated copies are: "
        f"{listed(sorted(copies))}"
    ]


def _find_copy(first: str, second: str) -> str | None:
    """The path of the two whose stem extends that of the other by a word; None if neither does."""
    files = [split_frame(Path(path))[0] for path in (first, second)]
    (image, _), (copy, path) = sorted(
        zip((file.stem.casefold() for file in files), (first, second), strict=True), key=lambda each: len(each[0])
    )
    return path if copy.startswith(image) and _ADDED_WORD.fullmatch(copy[len(image) :]) else None
