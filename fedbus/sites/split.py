"""Train, validation and test by group, stratified by class, frozen to a CSV file.

A group is a patient, or images that are near-duplicates of each other, joined transitively: all rows of a group are in
the same split. The splits are folds of scikit-learn's `StratifiedGroupKFold`, so that cross-validation is the same
procedure with another `fold`: fold `fold` of `folds` is the test split, and validation is cut from the rest likewise.
"""

import csv
import hashlib
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import SplitError
from fedbus.seeds import derive_seed
from fedbus.system.csv_file import read_csv, write_csv
from fedbus.system.files import write_text

SPLITS = ("train", "validation", "test")

HELD_OUT = "held-out"
"""A fourth split, only where a split leaks on purpose (`fedbus.sites.leaky_split`): rows that it never sees."""

COLUMNS = ("row", "path", "label", "patient", "group", "split")

OLD_COLUMNS = {"part": "split"}
"""Columns that were renamed: version 0.1 wrote the old name. It also wrote no `row`; see `read_split`."""


@dataclass(frozen=True)
class SplitRow:
    """One image and its split.

    A split that over-samples first has several rows of one image, also in different splits.

    Attributes:
        row: Position in the manifest, from 0, and so in the pixel cache.
        path: Path relative to the dataset's folder.
        label: One of `CLASSES`.
        patient: Id or pseudonym of the patient; empty where none is published.
        group: Name of the group; rows of a group are in the same split.
        split: One of `SPLITS`, or `HELD_OUT`.
    """

    row: int
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
        return write_csv(COLUMNS, [(r.row, r.path, r.label, r.patient, r.group, r.split) for r in self.rows])

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
        """Rows of each split and class; a repeated image counts each time."""
        return {
            split: {name: sum(r.split == split and r.label == name for r in self.rows) for name in CLASSES}
            for split in self.splits
        }

    def write(self, path: Path) -> None:
        """Freeze the split to `path`."""
        write_text(path, self.text)


def read_split(site: str, path: Path, positions: Sequence[int] | None = None) -> SplitTable:
    """Read a frozen split.

    Args:
        site: Name of the site.
        path: The CSV file.
        positions: Positions of the rows in the manifest, for a file of version 0.1, which has no column `row`.

    Raises:
        SplitError: If the file is missing or empty, or has other columns, or an unknown split or label.
    """
    try:
        header, *cells = read_csv(path.read_bytes().decode()) or [[]]
        lines = [dict(zip(header, row, strict=True)) for row in cells if row]
        rows = tuple(_parse_row(line) for line in (lines if positions is None else _with_rows(lines, positions)))
    except (OSError, KeyError, TypeError, ValueError, csv.Error) as error:  # ValueError includes UnicodeDecodeError
        raise SplitError(
            f"{path} is not a split file ({error}).", f"It needs the columns {','.join(COLUMNS)}."
        ) from error
    if not rows or not all(row.split in (*SPLITS, HELD_OUT) and row.label in CLASSES for row in rows):
        raise SplitError(
            f"{path} is empty, or contains an unknown split or label.", "Make the split again in a new --out."
        )
    return SplitTable(site, rows)


def _parse_row(line: dict[str, Any]) -> SplitRow:
    fields = {OLD_COLUMNS.get(key, key): value for key, value in line.items()}
    return SplitRow(row=int(fields.pop("row")), **fields)


def _with_rows(lines: Sequence[dict[str, Any]], positions: Sequence[int]) -> list[dict[str, Any]]:
    return [line | {"row": row} for row, line in zip(positions, lines, strict=True)]


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
    """Assign every row to a split.

    Args:
        site: Name of the site, for errors, and part of the seed.
        labels: One of `CLASSES` per row.
        groups: Rows with equal names stay together.
        folds: The test split is one `folds`-th of the rows.
        fold: Which fold is the test split, 0 to folds - 1.
        validation_fraction: Share of the rows that are not test rows, 0 < fraction <= 0.5; more where a class has too
            few groups for that.
        seed: Seed of the split.

    Raises:
        SplitError: If a class has too few groups for every split to have one.
    """
    y, g = np.array(labels), np.array(groups)
    _check_groups(site, y, g)
    outer = _folds(y, g, folds, derive_seed(seed, "test", site))
    if fold >= len(outer):
        raise SplitError(
            f"{site}: fold {fold} of {folds} does not exist; its commonest class has {len(outer)} images or groups "
            "(patients, or near-duplicates taken together).",
            f"Use --set folds={len(outer)} or fewer.",
        )
    rest, _ = outer[fold]
    present = set(labels)
    for count in range(max(2, round(1 / validation_fraction)), 1, -1):  # few patients need a larger validation split
        inner = _folds(y[rest], g[rest], count, derive_seed(seed, "validation", site, fold))
        for train, validation in inner:
            splits = np.full(len(y), "test", dtype=object)
            splits[rest[train]], splits[rest[validation]] = "train", "validation"
            if all(set(y[splits == split]) == present for split in SPLITS):
                return [str(split) for split in splits]
    rare = min(present, key=lambda name: len(set(g[y == name])))
    fewer = "" if folds == len(SPLITS) else "--set folds=3, "
    raise SplitError(
        f"{site}: not all of {', '.join(sorted(present))} can be in each of train, validation and test; "
        f"{rare} has {len(set(g[y == rare]))} groups (patients, or near-duplicates taken together).",
        f"Use {fewer}another --set split-seed, or more patients of that class.",
    )


def _check_groups(site: str, labels: NDArray[np.str_], groups: NDArray[np.str_]) -> None:
    for name in sorted(set(labels)):
        count = len(set(groups[labels == name]))
        if count < len(SPLITS):
            raise SplitError(
                f"{site}: {name} has only {count} group(s) (patients, or near-duplicates taken together), "
                f"and train, validation and test need one each.",
                "Add patients of that class, or leave the class out of this site.",
            )


def _folds(
    labels: NDArray[np.str_], groups: NDArray[np.str_], folds: int, seed: int
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    from sklearn.model_selection import StratifiedGroupKFold  # late: takes a second to import

    # scikit-learn refuses more folds than there are groups, or rows of the commonest class; a small dataset gets fewer,
    # larger folds.
    folds = min(folds, len(set(groups)), max(int((labels == name).sum()) for name in set(labels)))
    if folds < 2:
        return []
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed % 2**32)
    with warnings.catch_warnings():  # a rare class is checked, and explained, by the caller
        warnings.filterwarnings("ignore", message="The least populated class")
        return list(splitter.split(labels, labels, groups))
