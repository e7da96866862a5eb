"""The image files of a folder: links are followed, no file is read twice, and what is left out is counted."""

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from fedbus.errors import ArchiveError, listed
from fedbus.images.decode import split_frame
from fedbus.images.file_kind import IMAGE, SUFFIXES, UNIMPORTANT, find_kind

_SYSTEM_FOLDERS = ("__macosx", "@eadir", "$recycle.bin", "system volume information", "lost+found")
_ARCHIVES = (".zip", ".rar", ".7z", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".zst")
_SHOWN_KINDS = 8

SPECIAL = "pipes, sockets or devices"
"""The kind of what is neither a file nor a folder."""


@dataclass
class Listing:
    """The files of a folder.

    Attributes:
        folder: The folder.
        images: Image files, sorted.
        left_out: Other files by kind (see `find_kind`), without documents and files of the operating system.
        repeated: Links to files and folders that are read from elsewhere: (the link, where its target is read).
        dangling: Links that lead nowhere.
    """

    folder: Path
    images: list[Path] = field(default_factory=list)
    left_out: dict[str, list[Path]] = field(default_factory=dict)
    repeated: list[tuple[Path, Path]] = field(default_factory=list)
    dangling: list[Path] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Notes on the files that are left out, and on repeated links."""
        notes = []
        if self.left_out:
            total = sum(map(len, self.left_out.values()))
            notes.append(f"{total} file(s) are not read as images: {describe_kinds(self.left_out)}")
        if self.repeated:
            links = [f"{self._name(link)} (read as {self._name(target)})" for link, target in self.repeated]
            notes.append(f"{len(links)} link(s) lead to what is read already, and are not followed: {listed(links)}")
        return notes

    def _name(self, path: Path) -> str:
        return path.relative_to(self.folder).as_posix() if path != self.folder else "."


def describe_kinds(files: dict[str, list[Path]]) -> str:
    """Count files by kind, the commonest first: "3 .heic, 1 .zip"."""
    counts = sorted((-len(paths), kind) for kind, paths in files.items())
    others = -sum(count for count, _ in counts[_SHOWN_KINDS:])
    shown = [f"{-count} {kind}" for count, kind in counts[:_SHOWN_KINDS]]
    text = ", ".join([*shown, f"{others} other(s)"] if others else shown)
    hints = []
    if any(kind in _ARCHIVES for kind in files):
        hints.append("unpack archives")
    if "DICOM without preamble" in files:
        hints.append("export DICOM with preamble (Part 10)")
    if any(kind.startswith("images with") for kind in files):
        hints.append("rename images to end in their format")
    return f"{text} ({'; '.join(hints)})" if hints else text


def list_images(folder: Path, *, nested: bool = True, once: bool = True) -> Listing:
    """List the image files of a folder.

    Links to files and folders are followed, also out of the folder, but no file or folder is read twice: not through a
    second link, and not through a link beside the file itself.

    Args:
        folder: The folder.
        nested: Whether to list the folders below it too.
        once: Whether to list a file once even if it has several names.

    Raises:
        ArchiveError: If links lead nowhere, or the name of an image is not UTF-8 or looks like the frame of a file.
        OSError: If a folder or file can't be read.
    """
    listing = list_files(folder, nested=nested, once=once)
    _check_links(folder, listing.dangling)
    _check_names(folder, listing.images)
    return listing


def list_files(folder: Path, *, nested: bool = True, once: bool = True) -> Listing:
    """List the files of a folder as `list_images`, without an error for lost links and for strange names.

    Raises:
        OSError: If a folder or file can't be read.
    """
    walk = _Walk(folder, nested=nested, once=once)
    listing = Listing(folder)
    for path in walk.files():
        kind = find_kind(path)
        if kind == IMAGE:
            listing.images.append(path)
        elif kind != UNIMPORTANT:
            listing.left_out.setdefault(kind, []).append(path)
    if walk.special:
        listing.left_out[SPECIAL] = walk.special
    listing.images.sort()
    listing.repeated, listing.dangling = walk.repeated, walk.dangling
    return listing


def has_images(folder: Path) -> bool:
    """Return whether a folder contains an image, at any depth; a folder that can't be read contains none."""
    try:
        return any(find_kind(path) == IMAGE for path in _Walk(folder, nested=True, once=True).files())
    except OSError:
        return False


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is hidden, or belongs to an operating system."""
    return name.startswith(".") or name.lower() in _SYSTEM_FOLDERS


class _Walk:
    """One pass over a folder: first what is in it, then what its links lead to, in order of their names."""

    def __init__(self, folder: Path, *, nested: bool, once: bool) -> None:
        self.folder, self.nested, self.once = folder, nested, once
        self.repeated: list[tuple[Path, Path]] = []
        self.dangling: list[Path] = []
        self.special: list[Path] = []
        self._seen: dict[str, Path] = {}
        self._links: list[Path] = []

    def files(self) -> Iterator[Path]:
        """Yield each regular file once."""
        root = os.path.realpath(self.folder)
        yield from self._below(self.folder, root)
        while self._links:
            self._links.sort(reverse=True)
            link = self._links.pop()
            real = os.path.realpath(link)
            if root.startswith(real.rstrip("/") + "/"):  # a folder above the dataset
                self.repeated.append((link, self.folder))
            elif link.is_dir():
                yield from self._below(link, real) if self.nested else []
            elif link.is_file():
                yield from [link] if not self.once or self._is_new(link, real) else []
            else:
                (self.special if link.exists() else self.dangling).append(link)

    def _below(self, folder: Path, real: str) -> Iterator[Path]:
        pending = [(folder, real)]
        while pending:
            folder, real = pending.pop()
            if not self._is_new(folder, real):
                continue
            with os.scandir(folder) as entries:
                visible = [entry for entry in entries if not is_hidden(entry.name)]
            for entry in sorted(visible, key=lambda entry: entry.name, reverse=True):
                path = folder / entry.name
                if entry.is_symlink():
                    self._links.append(path)
                elif entry.is_dir():
                    pending += [(path, f"{real}/{entry.name}")] if self.nested else []
                elif entry.is_file():
                    yield from [path] if not self.once or self._is_new(path, f"{real}/{entry.name}") else []
                else:
                    self.special.append(path)

    def _is_new(self, path: Path, real: str) -> bool:
        """Note a path and what it leads to; return whether that has not been seen."""
        if real in self._seen:
            self.repeated.append((path, self._seen[real]))
            return False
        self._seen[real] = path
        return True


def _check_links(folder: Path, dangling: list[Path]) -> None:
    lost = [link for link in dangling if link.suffix.lower() in (*SUFFIXES, "")]
    if lost:
        names = [f"{link.relative_to(folder).as_posix()} (to {link.readlink()})" for link in sorted(lost)]
        raise ArchiveError(
            f"{folder} has {len(lost)} link(s) that lead nowhere: {listed(names)}.",
            "Restore their targets, mount the disk that they are on, or remove the links.",
        )


def _check_names(folder: Path, images: list[Path]) -> None:
    names = [path.relative_to(folder).as_posix() for path in images]
    garbled = [escaped(name) for name in names if not is_text(name)]
    if garbled:
        raise ArchiveError(
            f"{folder} has {len(garbled)} image(s) whose names are not UTF-8: {listed(garbled)}.",
            "Rename them, for example with `convmv -r -f latin1 -t utf8 --notest .` in that folder"
            + ("." if sys.getfilesystemencoding() == "utf-8" else ", or `export LC_ALL=C.UTF-8` first."),
        )
    framed = [name for name, path in zip(names, images, strict=True) if split_frame(path)[1] is not None]
    if framed:
        raise ArchiveError(
            f"{folder} has {len(framed)} image(s) whose names end like the frame of a file: {listed(framed)}.",
            "Rename them, so that they do not end in # and a number.",
        )


def is_text(name: str) -> bool:
    """Return whether the name of a file is UTF-8, so that it can be written to files and sent to other processes."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def escaped(name: str) -> str:
    """Return the name of a file with escapes in place of bytes that are not UTF-8."""
    return name.encode(errors="backslashreplace").decode()
