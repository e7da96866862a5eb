"""Palettes of DICOM files to RGB: segmented ones (PS3.3, C.7.9.2) within the size that the standard allows.

A few bytes can name a segment of 65535 entries, and a segment can refer to others, or to itself.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.pixels.processing import apply_color_lut

from fedbus.images.limits import MOST_PALETTE_ENTRIES

_DISCRETE, _LINEAR, _INDIRECT = 0, 1, 2


def apply_palette(stored: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Map indices [H, W] to colours [H, W, 3] of the palette's depth.

    Raises:
        ValueError: If the palette is damaged, or expands to more than `MOST_PALETTE_ENTRIES`.
    """
    for colour in ("Red", "Green", "Blue"):
        segments = header.get(f"Segmented{colour}PaletteColorLookupTableData")
        if segments:
            wide = header[f"{colour}PaletteColorLookupTableDescriptor"].value[2] > 8
            order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
            width = 2 if wide else 1
            words = np.frombuffer(segments[: len(segments) // width * width], f"{order}u{width}").tolist()
            _count_entries(words, order if wide else f"8{order}", MOST_PALETTE_ENTRIES)
    return apply_color_lut(stored, header)


def _count_entries(
    words: list[int], kind: str, most: int, *, start: int = 0, most_segments: int = 0, nested: bool = False
) -> int:
    """Count the entries that pydicom will expand segments to; a segment counts as one at least, as it takes time.

    Args:
        words: The segments of the palette.
        kind: The byte order, after an 8 where a word has 8 bits.
        most: The most entries.
        start: Where to start.
        most_segments: How many segments to count; 0: all.
        nested: Whether an indirect segment refers to these, which must not refer to others (C.7.9.2.3).
    """
    total, segments, at = 0, 0, start
    while at + 1 < len(words):
        code, length = words[at], words[at + 1]
        at += 2
        if code == _DISCRETE:
            at += length
        elif code == _LINEAR:
            at += 1
        elif code == _INDIRECT and not nested:
            at, target = _read_target(words, kind, at)
            length = _count_entries(words, kind, most - total, start=target, most_segments=length, nested=True)
        else:
            raise ValueError("a palette with segments of an unknown kind, or nested ones")
        total, segments = total + max(1, length), segments + 1
        if total > most:
            raise ValueError("a palette with more entries than there are grey levels")
        if segments == most_segments:
            break
    return total


def _read_target(words: list[int], kind: str, at: int) -> tuple[int, int]:
    """Where the next segment starts, and where the one that an indirect segment refers to does."""
    if kind.startswith("8"):
        first, second, third, last = words[at : at + 4]
        places = (last, third, second, first) if kind.endswith("<") else (third, last, first, second)
        return at + 4, int.from_bytes(bytes(places))
    low, high = words[at : at + 2]
    return at + 2, high << 16 | low
