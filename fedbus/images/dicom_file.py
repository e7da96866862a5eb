"""Read the elements of a DICOM file within the limits of `fedbus.images.limits`.

pydicom inflates a deflated file without limit, and follows nested sequences as long as there are any.
"""

import logging
import warnings
import zlib
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from pydicom import Dataset, dcmread, uid
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import Tag

from fedbus.errors import ImageError
from fedbus.images.limits import MOST_INFLATED_BYTES, MOST_ITEMS, MOST_READS, MOST_SEQUENCE_BYTES, open_regular

_META_GROUP = 0x0002
_PIXEL_GROUP = 0x7FE0
_ITEMS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")  # what an item starts with, little and big endian


def read_dicom(path: Path, tags: Sequence[str | int], *, pixels: bool = True) -> Dataset:
    """Read some elements of a DICOM file (Part 10, with preamble).

    Args:
        path: The file.
        tags: Names or numbers of the elements to read.
        pixels: Whether to read on to the pixels.

    Returns:
        A dataset with `file_meta`, and those of the elements that the file has.

    Raises:
        ImageError: If the file exceeds a limit; the message names it.
        Exception: Of any type, from pydicom, if the file is missing, damaged or not DICOM.
    """
    excess: list[str] = []
    try:
        with open_regular(path) as opened:
            found = _read(_CountedReads(opened, excess), list(tags), pixels, excess)
    except Exception:
        if excess:  # pydicom turns the errors of a file into others
            raise ImageError(f"{path} can't be decoded: {excess[0]}.", "Export it again, uncompressed.") from None
        raise
    if any(_is_long_sequence(element) for element in found.elements()):
        raise ImageError(f"{path} can't be decoded: it has too many items.", "Export it again from its source.")
    return found


def keep_quiet() -> None:
    """Silence messages that quote tags. At every call, because other libraries reset the filters; safe in threads."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # the level, because its children inherit that
    warnings.filterwarnings("ignore", module=r"pydicom\b.*")


def declared(file: Dataset, tag: str | int) -> Any:
    """Return the value of an element that pixels can be shown without; None if it is missing or damaged."""
    try:
        found = file[tag].value
    except Exception:  # missing, or a value that pydicom can't convert: the pixels may still be sound
        return None
    return found


def _is_long_sequence(element: Any) -> bool:
    """Whether an element is a sequence whose items pydicom will only parse when they are used, and has too many."""
    if not (isinstance(element.value, bytes) and dictionary_has_tag(element.tag)):
        return False
    if dictionary_VR(element.tag) != "SQ":
        return False
    return len(element.value) > MOST_SEQUENCE_BYTES or sum(map(element.value.count, _ITEMS)) > MOST_ITEMS


def _read(file: Any, tags: list[Any], pixels: bool, excess: list[str]) -> Dataset:
    read_preamble(file, force=False)
    meta = FileMetaDataset(
        read_dataset(file, is_implicit_VR=False, is_little_endian=True, stop_when=lambda tag, *_: tag.group != 2)
    )
    if meta.get("TransferSyntaxUID") != uid.DeflatedExplicitVRLittleEndian:
        file.seek(0)
        return dcmread(file, specific_tags=tags, stop_before_pixels=not pixels)
    inflated: Any = _CountedReads(BytesIO(_inflate(file, excess)), excess)
    stop = None if pixels else (lambda tag, *_: tag.group >= _PIXEL_GROUP)
    wanted: list[Any] = [Tag(tag) for tag in tags]
    dataset = read_dataset(inflated, is_implicit_VR=False, is_little_endian=True, stop_when=stop, specific_tags=wanted)
    dataset.file_meta = meta
    return dataset


def _inflate(file: Any, excess: list[str]) -> bytes:
    """Inflate the rest of a file; raw deflate, as PS3.5, A.5 requires."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    content = inflater.decompress(file.read_rest(), MOST_INFLATED_BYTES)
    if inflater.unconsumed_tail:
        excess.append(f"it inflates to more than {MOST_INFLATED_BYTES / 2**20:.0f} MiB")
        raise ValueError
    if not inflater.eof:
        raise EOFError("the deflated data ends early")
    return content


class _CountedReads:
    """A file for pydicom that refuses to be read in more than `MOST_READS` pieces, or whole; `excess` says why."""

    def __init__(self, file: BinaryIO, excess: list[str]) -> None:
        self._file, self._left, self._excess = file, MOST_READS, excess
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        self._left -= 1
        if self._left < 0:
            self._excess.append("it has too many elements and items")
        elif size < 0:  # pydicom is about to inflate it
            self._excess.append("its compression is not declared as it should be")
        if self._excess:
            raise ValueError
        return self._file.read(size)

    def read_rest(self) -> bytes:
        return self._file.read()
