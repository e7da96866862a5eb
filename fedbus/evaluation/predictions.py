"""Predictions of a model on labelled rows, and their CSV file."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.metrics import FloatArray
from fedbus.system.csv_file import read_csv, write_csv
from fedbus.system.files import write_text

COLUMNS = ("site", "path", "label", "group", *CLASSES)
"""Header of a predictions file; the classes are columns of probabilities."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one trained model (one seed) on N rows.

    The constructor accepts any sequences and number types, and converts them to arrays.

    Attributes:
        labels: int64 [N], the truth, as positions in `CLASSES`.
        probabilities: float64 [N, 3], in the order of `CLASSES`, rows sum to 1.
        groups: str [N], rows that must stay together, unique across sites ("site/group").
        sites: str [N], the site of each row.
        paths: str [N], the image of each row, relative to its site's dataset.

    Raises:
        RunError: If there are no rows, columns differ in length, labels are out of range, or rows are not
            probabilities.
    """

    labels: NDArray[np.int64]
    probabilities: FloatArray
    groups: NDArray[np.str_]
    sites: NDArray[np.str_]
    paths: NDArray[np.str_]

    def __post_init__(self) -> None:
        for name, kind in (("labels", np.int64), ("probabilities", np.float64)):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=kind))
        for name in ("groups", "sites", "paths"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), dtype=np.str_))
        count = len(self.labels)
        if count == 0:
            raise RunError("There are no predictions.", "Check that the split has rows to score.")
        lengths = {len(column) for column in (self.groups, self.sites, self.paths)}
        if lengths != {count} or self.probabilities.shape != (count, len(CLASSES)):
            raise RunError(
                f"Columns differ in length: {count} labels, probabilities {self.probabilities.shape}, names {lengths}.",
                f"Give each row one label, site, path, group and {len(CLASSES)} probabilities.",
            )
        if self.labels.min() < 0 or self.labels.max() >= len(CLASSES):
            raise RunError("Predictions have labels out of range.", f"Use 0 to {len(CLASSES) - 1}.")
        # Written so that NaN fails too; argmax would accept it.
        sound = (self.probabilities >= 0).all(axis=1) & (np.abs(self.probabilities.sum(axis=1) - 1) < 1e-4)
        if not sound.all():
            row = int(np.flatnonzero(~sound)[0])
            raise RunError(
                f"{self.sites[row]}/{self.paths[row]} has the probabilities {self.probabilities[row].tolist()}.",
                "Check whether training diverged (NaN losses), and if so lower the learning rate.",
            )

    def select(self, site: str) -> "Predictions":
        """Select the rows of one site, in their order.

        Raises:
            RunError: If no row belongs to this site.
        """
        kept = self.sites == site
        if not kept.any():
            known = ", ".join(sorted(set(self.sites.tolist())))
            raise RunError(f"There are no predictions of site {site!r}.", f"Choose from {known}.")
        return self.take(kept)

    def take(self, kept: NDArray[np.bool_]) -> "Predictions":
        """Select rows by a mask, bool [N]; at least one."""
        return Predictions(
            self.labels[kept], self.probabilities[kept], self.groups[kept], self.sites[kept], self.paths[kept]
        )

    def to_csv(self, path: Path) -> None:
        """Write a CSV file with the header `COLUMNS`: labels by name, probabilities with all digits."""
        names = [CLASSES[label] for label in self.labels]
        columns = (self.sites.tolist(), self.paths.tolist(), names, self.groups.tolist())
        rows = [(*row, *numbers) for *row, numbers in zip(*columns, self.probabilities.tolist(), strict=True)]
        write_text(path, write_csv(COLUMNS, rows))

    @classmethod
    def from_csv(cls, path: Path) -> "Predictions":
        """Read a file written by `to_csv`.

        Raises:
            RunError: If the file is missing, has another header, or contains an invalid label or number.
        """
        remedy = "Score the run again, or restore the file."
        if not path.is_file():
            raise RunError(f"{path} does not exist.", remedy)
        try:
            header, *rows = read_csv(path.read_bytes().decode()) or [[]]
            if tuple(header) != COLUMNS:
                raise RunError(f"{path} has the columns {header}, not {list(COLUMNS)}.", remedy)
            sites, paths, names, groups, *numbers = zip(*rows, strict=True)
            labels = np.array([CLASSES.index(name) for name in names])
            probabilities = np.array(numbers, dtype=np.float64).T
        except (ValueError, csv.Error) as error:
            raise RunError(f"{path} can't be read as predictions ({error}).", remedy) from error
        return cls(labels, probabilities, np.array(groups), np.array(sites), np.array(paths))


def join(predictions: Sequence[Predictions]) -> Predictions:
    """Concatenate predictions on several sites' rows, in the given order."""
    return Predictions(
        *(
            np.concatenate([getattr(each, name) for each in predictions])
            for name in ("labels", "probabilities", "groups", "sites", "paths")
        )
    )
