"""The archives that FedBUS reads: one module each with `read`, `matches`, `CENSUS`, `CITATION`, `TERMS`."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from fedbus.datasets.manifest import Manifest
from fedbus.datasets.readers import bus_bra, bus_uclm, busi, class_folders, gdph_sysucc, labels_csv, phantoms
from fedbus.errors import ArchiveError, SettingsError


@dataclass(frozen=True)
class Reader:
    """One way to read an archive.

    Attributes:
        name: what studies and the command line call it.
        read: (root, site) to a manifest, or an ArchiveError.
        matches: whether a folder looks like this archive.
        census: published images of each class, None for a hospital's own pictures.
        citation: the paper to cite.
        terms: under which terms the images are published.
    """

    name: str
    read: Callable[[Path, str], Manifest]
    matches: Callable[[Path], bool]
    census: dict[str, int] | None
    citation: str
    terms: str


class _Module(Protocol):
    """What every reader's module has."""

    CENSUS: dict[str, int] | None
    CITATION: str
    TERMS: str

    def read(self, root: Path, site: str) -> Manifest: ...
    def matches(self, root: Path) -> bool: ...


def _reader(name: str, module: _Module) -> Reader:
    return Reader(name, module.read, module.matches, module.CENSUS, module.CITATION, module.TERMS)


_WHOLE = _reader("gdph-sysucc", gdph_sysucc)
_HOSPITALS = gdph_sysucc.CENSUS_OF_HOSPITAL

READERS: dict[str, Reader] = {
    reader.name: reader
    for reader in (
        _reader("busi", busi),
        _reader("bus-uclm", bus_uclm),
        _WHOLE,
        replace(_WHOLE, name="gdph", read=gdph_sysucc.read_gdph, census=_HOSPITALS["GDPH"]),
        replace(_WHOLE, name="sysucc", read=gdph_sysucc.read_sysucc, census=_HOSPITALS["SYSUCC"]),
        _reader("bus-bra", bus_bra),
        _reader("phantoms", phantoms),
        _reader("labels-csv", labels_csv),
        _reader("class-folders", class_folders),
    )
}
"""Readers by name; published layouts first, because a guess at a folder's layout takes the first match."""


def find_reader(name: str) -> Reader:
    """Look a reader up.

    Raises:
        SettingsError: there is none of that name; the nearest is proposed.
    """
    if name not in READERS:
        near = difflib.get_close_matches(name.lower(), READERS, n=1, cutoff=0.5)
        remedy = f"Did you mean {near[0]}? " if near else ""
        raise SettingsError(f"There is no reader {name!r}.", f"{remedy}Readers are {', '.join(READERS)}.")
    return READERS[name]


def read_archive(reader: str, root: Path, site: str) -> Manifest:
    """Read the archive at `root` with the reader of that name.

    Raises:
        SettingsError: no such reader.
        ArchiveError: root is missing, a file, empty or of another archive's layout, or the reader objects.
    """
    chosen = find_reader(reader)
    _check_root(root, site)
    try:
        if not chosen.matches(root):
            _refuse_other_layout(chosen, root)
        return chosen.read(root, site)
    except OSError as error:
        raise ArchiveError(
            f"{error.filename or root} can't be read ({error.strerror}).",
            "Check that it is there and that you may read it.",
        ) from error


def _check_root(root: Path, site: str) -> None:
    if not root.exists():
        raise ArchiveError(
            f"{root} is not there (site {site}).", f"Check the path; relative ones start at {Path.cwd()}."
        )
    if not root.is_dir():
        raise ArchiveError(f"{root} is a file (site {site}).", "Unpack the archive and name its folder.")
    if not any(root.iterdir()):
        raise ArchiveError(f"{root} is empty (site {site}).", "Unpack the archive into it.")


def _refuse_other_layout(chosen: Reader, root: Path) -> None:
    other = next((reader for reader in READERS.values() if reader.matches(root)), None)
    if other is not None:
        raise ArchiveError(
            f"{root} does not hold {chosen.name}: it looks like {other.name}.", f"Read it with {other.name}."
        )
