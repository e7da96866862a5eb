"""Find the images to predict, without labels: every frame of every image file that the user names."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fedbus.datasets.readers.listing import SPECIAL, Listing, is_text, list_files
from fedbus.errors import ImageError, RunError
from fedbus.images.decode import split_frame
from fedbus.images.file_kind import is_dicom

FRAMES_AT_A_TIME = 64
"""Frames of a DICOM file that are decoded together, so that memory does not grow with the length of a sequence."""

_REMEDIES = {
    "DICOM without preamble": "Export it again with preamble (Part 10).",
    "DICOM without image": "Export the image itself, not a report or a measurement.",
    "DICOMDIR": "No action needed: it only lists the other files.",
    SPECIAL: "Remove it, or put the file itself in its place.",
}


@dataclass(frozen=True)
class Source:
    """A file, or some frames of one, that are decoded together.

    Attributes:
        path: The file.
        name: How outputs call it.
        frames: Numbers of the frames, counted from 1; empty for a file that is one image.
    """

    path: Path
    name: str
    frames: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Return the number of images."""
        return max(1, len(self.frames))


@dataclass(frozen=True)
class Unreadable:
    """A file, or a frame of one, that can't be predicted.

    Attributes:
        name: How outputs call it; a frame as `file#12`.
        problem: What is wrong.
        remedy: What to do about it.
    """

    name: str
    problem: str
    remedy: str

    @classmethod
    def from_error(cls, name: str, error: ImageError) -> "Unreadable":
        """Describe the error of decoding a file."""
        return cls(name, error.problem, error.remedy)


@dataclass
class Found:
    """What the user's paths contain.

    Attributes:
        sources: The images, in the order of the paths and of their names.
        unreadable: Files that can't be decoded, as far as known before decoding.
        notes: Remarks on links that are not followed.
        folders: Folders that are read, resolved; nothing may be written into them.
    """

    sources: list[Source] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)


def find_sources(paths: Sequence[Path]) -> Found:
    """Find the images below paths; a file below several of them is read once.

    Args:
        paths: Files, and folders that are searched at every depth. With one path, files are named relative to it; with
            several, as the paths are written.

    Raises:
        RunError: If a path does not exist, a folder can't be read, or there are no images and no unreadable files.
    """
    found, seen = Found(), set[str]()
    for path in paths:
        if not path.exists() and not path.is_symlink():
            raise RunError(f"{path} does not exist.", f"Check the path; relative ones start at {Path.cwd()}.")
        base = None if len(paths) > 1 else path if path.is_dir() else path.parent
        files = _list_folder(path, base, found) if path.is_dir() else [path]
        for file in files:
            real = os.path.realpath(file)
            if real not in seen:
                seen.add(real)
                _add(found, file, _name(file, base))
    if not found.sources and not found.unreadable:
        raise RunError(
            f"{', '.join(map(str, paths))} contains no image.",
            "Name a folder with PNG, JPEG, TIFF or DICOM files, or the files themselves.",
        )
    return found


def _list_folder(folder: Path, base: Path | None, found: Found) -> list[Path]:
    """Return the image files of a folder; note all others."""
    try:
        listing = list_files(folder)
    except OSError as error:
        raise RunError(
            f"{error.filename or folder} can't be read ({error.strerror or error}).", "Check that you may read it."
        ) from error
    found.folders |= {folder.resolve(), *(path.parent.resolve() for path in listing.images)}
    found.unreadable += _left_out(listing, base)
    found.notes += Listing(folder, repeated=listing.repeated).notes
    return listing.images


def _left_out(listing: Listing, base: Path | None) -> list[Unreadable]:
    files = [
        Unreadable(
            _name(path, base),
            f"{path} is not read as an image ({kind}).",
            _REMEDIES.get(kind, "Save it as PNG or DICOM with the usual ending, or ignore it if it is no image."),
        )
        for kind, paths in listing.left_out.items()
        for path in paths
    ]
    lost = [
        Unreadable(
            _name(path, base),
            f"{path} is a link that leads nowhere (to {path.readlink()}).",
            "Restore its target, mount the disk that it is on, or remove the link.",
        )
        for path in listing.dangling
    ]
    return sorted(files + lost, key=lambda each: each.name)


def _add(found: Found, file: Path, name: str) -> None:
    """Add the images of a file, or why it has none."""
    if not is_text(str(file)) or split_frame(file)[1] is not None:
        fault = "is not UTF-8" if not is_text(str(file)) else "ends like the frame of a file"
        found.unreadable.append(Unreadable(name, f"The name of {file} {fault}.", "Rename the file."))
        return
    try:
        count = _count_frames(file)
    except ImageError as error:
        found.unreadable.append(Unreadable.from_error(name, error))
        return
    if count == 1:
        found.sources.append(Source(file, name))
        return
    numbers = range(1, count + 1)
    for first in range(0, count, FRAMES_AT_A_TIME):
        found.sources.append(Source(file, name, tuple(numbers[first : first + FRAMES_AT_A_TIME])))


def _count_frames(file: Path) -> int:
    if not is_dicom(file):
        return 1
    from fedbus.images.dicom import number_of_frames  # late: most folders need no pydicom

    return number_of_frames(file)


def _name(path: Path, base: Path | None) -> str:
    return (path.relative_to(base) if base else path).as_posix()
