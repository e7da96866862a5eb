"""What one file of a dataset may cost, whoever made it: every limit on files, their types, pixels and nesting.

Each size is known before memory is spent on it. A file that exceeds a limit is refused by name.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from threading import RLock

from fedbus.errors import ImageError

MOST_FILE_BYTES = 2**30
"""Of an image file: about 20 minutes of ultrasound video as JPEG, 700 frames uncompressed."""

MOST_TABLE_BYTES = 2**26
"""Of a table, and of all parts of a workbook after unpacking: half a million rows."""

MOST_WORKBOOK_CELLS = (100_000, 64)
"""Rows and columns that are read of a workbook."""

MOST_INFLATED_BYTES = 2**27
"""Of a deflated DICOM file after inflating. Deflate packs up to a thousandfold, and several files are read at once."""

MOST_PIXELS = 178_956_970
"""Of one image: the bound of Pillow, twice `Image.MAX_IMAGE_PIXELS`, for every format."""

LARGE_PIXELS, LARGE_FILE_BYTES = 2**24, 2**26
"""Images and files above this are decoded one at a time, so that memory does not grow with the number of cores."""

MOST_READS = 200_000
"""Pieces that a DICOM file is read in, nested items included: several times those of a large multi-frame file."""

MOST_SEQUENCE_BYTES, MOST_ITEMS = 2**23, 50_000
"""Of a DICOM sequence that is used: several times those of a file that describes a thousand frames one by one."""

MOST_FRAMES = 100_000
"""Frames that a DICOM file may claim, and pieces of its compressed pixels: usually one per frame."""

MOST_PALETTE_ENTRIES = 2**17
"""Of a DICOM palette after expanding its segments: twice those of the standard."""

MOST_PAGES = 100
"""Pages of a TIFF file that are searched for its first full-size image."""

FORMATS = ("PNG", "JPEG", "BMP", "DIB", "TIFF", "GIF", "WEBP", "JPEG2000", "PPM")
"""Pillow's names of the formats that are read, whatever a file's ending. Some of its other decoders start programs."""

_large = RLock()


def open_regular(path: Path, most: int = MOST_FILE_BYTES) -> BufferedReader:
    """Open a regular file of limited size for reading.

    Args:
        path: The file, or a link to it.
        most: The largest size in bytes.

    Raises:
        ImageError: If it is larger, or is a pipe, socket, device or folder, whose end might never come.
        OSError: If it is missing or can't be opened.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise ImageError(f"{path} is not a regular file.", "Remove it, or put the file itself in its place.")
    if found.st_size > most:
        raise ImageError(
            f"{path} is larger than {most / 2**20:.0f} MiB, the limit.",
            "Export a shorter sequence or single frames, or remove it.",
        )
    # If a pipe has taken the file's place meanwhile, opening it does not wait for a writer.
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb")


def check_pixels(path: Path, width: int, height: int) -> None:
    """Refuse an image of more than `MOST_PIXELS`.

    Raises:
        ImageError: If it has more.
    """
    if width * height > MOST_PIXELS:
        raise ImageError(
            f"{path} can't be decoded: it claims more pixels than any scanner makes (the most is {MOST_PIXELS:,}).",
            "Export it again from its source.",
        )


@contextmanager
def take_turn(large: bool) -> Iterator[None]:
    """Wait until no other large image is being decoded; small ones do not wait."""
    if not large:
        yield
        return
    with _large:
        yield
