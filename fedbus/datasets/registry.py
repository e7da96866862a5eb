"""The readers: each turns one kind of dataset folder into a `Manifest`.

To add a reader, write one module in `fedbus/datasets/readers/` that has everything in `ReaderModule`, and add it to
`READERS`. Its docstring describes the layout. Most of what a reader needs is in `readers/`: find the folder
(`find_folder` of `folders.py`), list image files (`image_files` of `common.py`), read a table (`read_table` of
`tables.py`), and compare rows with files (`check_rows_and_files` of `common.py`); `build_manifest` does the rest. A
reader

- lists image files and their labels, and decodes nothing;
- gives the patient of every image where the dataset publishes it, because rows of a patient must stay together;
- raises ArchiveError for every contradiction instead of guessing: a wrong label is worse than a refused folder;
- needs a builder of a small example in `tests/archives.py`, and a test beside the others.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from fedbus.datasets.manifest import Manifest
from fedbus.datasets.readers import bus_bra, bus_uclm, busi, class_folders, gdph_sysucc, labels_csv, phantoms
from fedbus.datasets.readers.listing import escaped, is_text
from fedbus.errors import ArchiveError, SettingsError


@dataclass(frozen=True)
class Reader:
    """One way to read a dataset.

    Attributes:
        name: Its name in settings and on the command line.
        read: See `ReaderModule`.
        matches: See `ReaderModule`.
        census: Published images of each class, None for a site's own images.
        citation: The paper to cite.
        terms: Terms under which the images are published.
    """

    name: str
    read: Callable[[Path, str], Manifest]
    matches: Callable[[Path], bool]
    census: dict[str, int] | None
    citation: str
    terms: str


class ReaderModule(Protocol):
    """What the module of every reader has."""

    CENSUS: dict[str, int] | None
    """Published images of each class, a missing class as 0; None where nothing is published."""

    CITATION: str
    """The paper to cite; reports print it."""

    TERMS: str
    """The licence or terms of use; reports print them."""

    def matches(self, root: Path) -> bool:
        """Return whether a folder looks like this dataset; quick, and without an error for any existing folder."""
        ...

    def read(self, root: Path, site: str) -> Manifest:
        """Read the dataset at `root`, an existing folder that `matches`, for the site of that name.

        Raises:
            ArchiveError: If the folder does not have the layout, or contradicts itself.
        """
        ...


def _reader(name: str, module: ReaderModule) -> Reader:
    return Reader(name, module.read, module.matches, module.CENSUS, module.CITATION, module.TERMS)


_BOTH_HOSPITALS = _reader("gdph-sysucc", gdph_sysucc)
_CENSUS_OF = gdph_sysucc.CENSUS_OF_HOSPITAL

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        _reader("busi", busi),
        _reader("bus-uclm", bus_uclm),
        _BOTH_HOSPITALS,
        replace(_BOTH_HOSPITALS, name="gdph", read=gdph_sysucc.read_gdph, census=_CENSUS_OF["GDPH"]),
        replace(_BOTH_HOSPITALS, name="sysucc", read=gdph_sysucc.read_sysucc, census=_CENSUS_OF["SYSUCC"]),
        _reader("bus-bra", bus_bra),
        _reader("phantoms", phantoms),
        _reader("labels-csv", labels_csv),
        _reader("class-folders", class_folders),
    )
}
"""Readers by name. Published layouts come first, because the first match names the layout of a folder in errors."""


def find_reader(name: str) -> Reader:
    """Look up a reader by name.

    Raises:
        SettingsError: If there is none of that name; the message suggests the nearest.
    """
    if name not in READERS:
        raise SettingsError(f"There is no reader {name!r}.", _suggest_readers(name))
    return READERS[name]


def _suggest_readers(name: str) -> str:
    near = difflib.get_close_matches(name.lower(), READERS, n=1, cutoff=0.5)
    return f"{f'Did you mean {near[0]}? ' if near else ''}Readers are {', '.join(READERS)}."


def read_dataset(reader: str, root: Path, site: str) -> Manifest:
    """Read the dataset at `root` with the reader of that name.

    Raises:
        SettingsError: If there is no such reader.
        ArchiveError: If root is missing, empty, not a folder or of another layout, or the reader refuses it.
    """
    chosen = check_folder(reader, root, site)
    try:
        if not chosen.matches(root):
            _refuse_other_layout(chosen, root)
        return chosen.read(root, site)
    except OSError as error:
        raise _unreadable(root, error) from error


def check_folder(reader: str, root: Path, site: str) -> Reader:
    """Check that a reader and a folder exist, without reading an image.

    Returns:
        The reader.

    Raises:
        SettingsError: If there is no such reader.
        ArchiveError: If root is missing, empty or not a folder.
    """
    if reader == site and reader not in READERS and root.is_dir():
        raise _forgotten_reader(root, site)
    chosen = find_reader(reader)
    try:
        _check_root(root, site)
    except OSError as error:
        raise _unreadable(root, error) from error
    return chosen


def _forgotten_reader(root: Path, site: str) -> SettingsError:
    """The error for `--site NAME=FOLDER`, where NAME is taken for the reader."""
    fitting = next((name for name, reader in READERS.items() if reader.matches(root)), "READER")
    return SettingsError(
        f"There is no reader {site!r}.",
        f"If that is the site's name, write {site}={fitting}:{root}. {_suggest_readers(site)}",
    )


def _unreadable(root: Path, error: OSError) -> ArchiveError:
    return ArchiveError(
        f"{error.filename or root} can't be read ({error.strerror}).", "Check that it exists and that you may read it."
    )


def _check_root(root: Path, site: str) -> None:
    if not is_text(str(root.absolute())):
        raise ArchiveError(
            f"The path of site {site} is not UTF-8: {escaped(str(root))}.",
            "Rename the folder, or name a link to it whose own path is UTF-8.",
        )
    if not root.exists():
        raise ArchiveError(
            f"{root} does not exist (site {site}).", f"Check the path; relative ones start at {Path.cwd()}."
        )
    if not root.is_dir():
        raise ArchiveError(f"{root} is a file (site {site}).", "Unpack the dataset and name its folder.")
    if not any(root.iterdir()):
        raise ArchiveError(f"{root} is empty (site {site}).", "Unpack the dataset into it.")


def _refuse_other_layout(chosen: Reader, root: Path) -> None:
    other = next((reader for reader in READERS.values() if reader.matches(root)), None)
    if other is not None:
        raise ArchiveError(
            f"{root} does not contain {chosen.name}: it looks like {other.name}.", f"Read it with {other.name}."
        )
