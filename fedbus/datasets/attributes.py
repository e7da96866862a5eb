"""What a dataset's table has of each image besides its class and patient: the scanner, the side, BI-RADS.

Attributes are no part of a manifest: they change neither its digest nor a split, and nothing is trained on them.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from fedbus.datasets.readers import bus_bra, bus_uclm, labels_csv
from fedbus.datasets.readers.columns import is_known, same_column
from fedbus.errors import SettingsError, listed

Attributes = dict[str, list[str]]
"""By column the cell of each image; empty where the table has none."""

_PUBLISHED: dict[str, Callable[[Path, Sequence[str]], Attributes]] = {
    "bus-bra": bus_bra.attributes,
    "bus-uclm": bus_uclm.attributes,
}
"""Readers of published datasets with attributes: all columns that they return are used."""

OWN_TABLE = "labels-csv"
"""The reader of tables that hospitals write, of which only columns that the user names are used: others may be free
text, dates or numbers of examinations."""


def read_attributes(reader: str, root: Path, paths: Sequence[str]) -> Attributes:
    """Read every attribute that a dataset's table has.

    Args:
        reader: Name of the reader that read the dataset.
        root: The folder that the user named.
        paths: The images, by their paths in the manifest.

    Raises:
        ArchiveError: If the dataset is no longer one that the reader accepts.
    """
    if reader == OWN_TABLE:
        return labels_csv.attributes(root, paths)
    return _PUBLISHED[reader](root, paths) if reader in _PUBLISHED else {}


def choose_columns(own: Mapping[str, Sequence[str]], names: Sequence[str]) -> dict[str, list[str]]:
    """Choose the columns that the user named from the tables that hospitals wrote.

    Args:
        own: By site the columns of its `labels.csv` that are not read otherwise.
        names: The columns that the user named; case, accents, spaces and signs do not matter.

    Returns:
        By site the chosen ones of its columns.

    Raises:
        SettingsError: If no table has a column of that name, or it is one that is read otherwise.
    """
    for name in names:
        if any(same_column(name, column) for columns in own.values() for column in columns):
            continue
        if not own:
            remedy = "It names columns of labels.csv; no site is read with labels-csv, so leave it empty."
        elif is_known(name):
            remedy = "Name a column that describes images or patients, such as scanner or age."
        else:
            known = sorted({column for columns in own.values() for column in columns})
            remedy = f"Its other columns are {listed(known, most=20)}." if known else "It has no other columns."
        raise SettingsError(f"subgroups: no labels.csv has a column {name!r} for subgroups.", remedy)
    return {
        site: [column for column in columns if any(same_column(name, column) for name in names)]
        for site, columns in own.items()
    }
