"""The splits for which a site has answered, and what two of them together would reveal.

A hub that has one model scored on two splits learns from the difference of the counts how the model does on the images
in which the splits differ. With few such images, that is a prediction of each. The same holds for two updates from the
same weights. So a site compares every new split with those before, and limits their number: with as many different
splits as images, the counts could be solved for each image.

    SITE/answered/DIGEST.csv    a copy of the frozen split, by its digest
"""

import shutil
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from fedbus.classes import CLASSES
from fedbus.sites.split import SPLITS, SplitTable, read_split
from fedbus.system.files import write_whole

ABSENT = len(SPLITS)
"""Where a table of two splits counts the images that only one of them has."""


def check_split(split: SplitTable, source: Path, answered: Path, limits: Limits) -> None:
    """Compare a split with those for which the site has answered, then record it.

    Args:
        split: The new split.
        source: Its file, of which the record is a copy.
        answered: The folder of the records.
        limits: The site's limits.

    Raises:
        RefusedError: If two sets of images that can be compared differ by too few images, or there are too many splits.
        SplitError: If a record is damaged.
        RunError: If the record can't be written.
    """
    record = answered / f"{split.digest}.csv"
    if record.is_file():
        return
    earlier = sorted(answered.glob("*.csv"))
    for path in earlier:
        smallest = smallest_difference(split, read_split(split.site, path))
        if smallest and smallest < limits.min_images:
            raise RefusedError(
                f"This site refuses the study: its split differs from that of an earlier run by fewer images than this "
                f"site's min-images = {limits.min_images}, so their counts could be compared.",
                f"Ask for the settings of the earlier run (limit, folds, fold, split-seed and so on). If instead you "
                f"added or removed images yourself and accept this, delete {path}.",
            )
    if len(earlier) >= limits.max_splits:
        raise RefusedError(
            f"This site refuses the study: it has answered for max-splits = {limits.max_splits} different splits.",
            f"Raise max-splits in site.toml and join again, or delete {answered} if the images are new.",
        )
    write_whole(record, lambda temporary: shutil.copyfile(source, temporary))


def smallest_difference(left: SplitTable, right: SplitTable) -> int:
    """Return the smallest number of images, above 0, by which two sets of one class differ; 0 if all sets are equal.

    The sets are the unions of training, validation and test of each split. Images are the same if their paths are.
    """
    differences = (
        int(table[np.logical_xor.outer(chosen, others)].sum())
        for table in _tables(left, right)
        for chosen in _unions()
        for others in _unions()
    )
    return min((count for count in differences if count), default=0)


def _tables(left: SplitTable, right: SplitTable) -> Iterator[NDArray[np.int64]]:
    """Count the images of each class by their place in the one split and in the other, int64 [4, 4]."""
    places = [{row.path: (row.label, SPLITS.index(row.split)) for row in split.rows} for split in (left, right)]
    for name in CLASSES:
        table = np.zeros((ABSENT + 1, ABSENT + 1), dtype=np.int64)
        for path in places[0].keys() | places[1].keys():
            (first, row), (second, column) = (place.get(path, ("", ABSENT)) for place in places)
            if name in (first, second):
                table[row if first == name else ABSENT, column if second == name else ABSENT] += 1
        yield table


def _unions() -> Iterator[NDArray[np.bool_]]:
    """Every union of splits, as a mask over the places of `_tables`."""
    for count in range(1, ABSENT + 1):
        for chosen in combinations(range(ABSENT), count):
            yield np.isin(np.arange(ABSENT + 1), chosen)
