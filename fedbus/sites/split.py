"""Train, validation and test by group, stratified by class, frozen to a CSV file.

A group is a patient, or images that are near-copies of each other, joined transitively: no group stands in two parts.
The parts are folds of scikit-learn's `StratifiedGroupKFold`, so that cross-validation is the same split with another
`fold`: fold `fold` of `folds` is the test part, and validation is cut from the rest the same way.
"""

import csv
import hashlib
import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedGroupKFold

from fedbus.classes import CLASSES
from fedbus.errors import SplitError
from fedbus.seeds import derive_seed
from fedbus.system.files import write_text

SPLITS = ("train", "validation", "test")

HELD_OUT = "held-out"
"""A fourth part, of the splits that leak alone (`fedbus.sites.leaky_split`): rows that such a split never sees."""

COLUMNS = ("path", "label", "patient", "group", "split")

OLD_COLUMNS = {"part": "split"}
"""Columns that were renamed; files of version 0.1 have the old ones."""


@dataclass(frozen=True)
class SplitRow:
    """One image and the part that it belongs to; `patient` is empty where none is published.

    A split that over-samples first has several rows of one image, also in different parts.
    """

    path: str
    label: str
    patient: str
    group: str
    split: str


@dataclass(frozen=True)
class SplitTable:
    """The frozen split of one site, rows in the order of its manifest."""

    site: str
    rows: tuple[SplitRow, ...]

    @property
    def text(self) -> str:
        """The CSV file's text."""
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((r.path, r.label, r.patient, r.group, r.split) for r in self.rows)
        return out.getvalue()

    @property
    def digest(self) -> str:
        """SHA-256 of the CSV file."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def splits(self) -> tuple[str, ...]:
        """`SPLITS`, and `held-out` where rows were set aside."""
        return (*SPLITS, HELD_OUT) if any(r.split == HELD_OUT for r in self.rows) else SPLITS

    @property
    def counts(self) -> dict[str, dict[str, int]]:
        """Rows by part and class: images, each as often as it stands there."""
        return {
            split: {name: sum(r.split == split and r.label == name for r in self.rows) for name in CLASSES}
            for split in self.splits
        }

    def write(self, path: Path) -> None:
        """Freeze the split to `path`."""
        write_text(path, self.text)


def read_split(site: str, path: Path) -> SplitTable:
    """Read a frozen split back.

    Raises:
        SplitError: the file is missing, has other columns, or a part or label that does not exist, or no rows.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = tuple(SplitRow(**{OLD_COLUMNS.get(key, key): value for key, value in row.items()}) for row in reader)
    except (OSError, TypeError, UnicodeDecodeError, csv.Error) as error:
        raise SplitError(
            f"{path} is not a split file ({error}).", f"It needs the columns {','.join(COLUMNS)}."
        ) from error
    if not rows or not all(row.split in (*SPLITS, HELD_OUT) and row.label in CLASSES for row in rows):
        raise SplitError(
            f"{path} is empty, or names a part or a label that does not exist.", "Make the split again in a new --out."
        )
    return SplitTable(site, rows)


def assign_splits(
    site: str,
    labels: Sequence[str],
    groups: Sequence[str],
    *,
    folds: int,
    fold: int,
    validation_fraction: float,
    seed: int,
) -> list[str]:
    """Give every row its part.

    Args:
        site: names the site in errors, and enters the seed.
        labels: one of `CLASSES` a row.
        groups: rows with equal names stay together.
        folds: the test part is one `folds`-th of the rows.
        fold: which fold is the test part, 0 to folds - 1.
        validation_fraction: of the rows that are not test rows, 0 < fraction <= 0.5; more where a class has
            too few groups for so small a part.
        seed: of the split.

    Raises:
        SplitError: a class has too few groups for every part to have one.
    """
    y, g = np.array(labels), np.array(groups)
    _check_groups(site, y, g)
    outer = _folds(y, g, folds, derive_seed(seed, "test", site))
    if fold >= len(outer):
        raise SplitError(
            f"{site}: fold {fold} of {folds} does not exist; its commonest class has {len(outer)} images.",
            f"Use --set folds={len(outer)} or fewer.",
        )
    rest, _ = outer[fold]
    present = set(labels)
    for count in range(max(2, round(1 / validation_fraction)), 1, -1):  # few patients need a larger validation part
        inner = _folds(y[rest], g[rest], count, derive_seed(seed, "validation", site, fold))
        for train, validation in inner:
            splits = np.full(len(y), "test", dtype=object)
            splits[rest[train]], splits[rest[validation]] = "train", "validation"
            if all(set(y[splits == split]) == present for split in SPLITS):
                return [str(split) for split in splits]
    rare = min(present, key=lambda name: len(set(g[y == name])))
    raise SplitError(
        f"{site}: no split gives every part all of {', '.join(sorted(present))}; "
        f"{rare} has {len(set(g[y == rare]))} groups (patients, or near-copies taken together).",
        "Use fewer folds (--set folds=3), another --set split-seed, or more patients of that class.",
    )


def _check_groups(site: str, labels: NDArray[np.str_], groups: NDArray[np.str_]) -> None:
    for name in sorted(set(labels)):
        count = len(set(groups[labels == name]))
        if count < len(SPLITS):
            raise SplitError(
                f"{site}: {name} has only {count} group(s) (patients, or near-copies taken together), "
                f"and train, validation and test need one each.",
                "Add patients of that class, or leave the class out of this site.",
            )


def _folds(
    labels: NDArray[np.str_], groups: NDArray[np.str_], folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    # scikit-learn refuses more folds than the commonest class has rows; a small archive gets fewer, larger ones.
    folds = min(folds, max(int((labels == name).sum()) for name in set(labels)))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():  # a rare class is checked, and explained, by the caller
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(labels, labels, groups))
