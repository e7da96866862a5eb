"""Whether a decoded image could be a segmentation mask: its grey values are few, or nearly all at two ends."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_GREYS = 8
"""More grey values than a mask of a few lesion types has, and far fewer than any ultrasound image."""

_SPREAD = 24
"""Compression moves the greys of a mask by at most this much, except at edges."""

_FLAT = 4
"""Far from edges, it moves them by at most this much."""

_LEAST_FLAT = 0.85
"""Share of pixels of a mask, at least, that are far from edges."""

_MOST_ELSEWHERE = 0.05
"""Share of pixels with neither of the two greys, at most: the blurred edges of a compressed or resized mask."""

_SMALL_LESION = 0.01
"""Share of pixels of a lesion so small that it has more edge than inside."""


def has_mask_greys(image: Image.Image) -> bool:
    """Tell from the grey values of an 8-bit grey image whether it could be a mask.

    True for at most `MOST_GREYS` grey values, for nearly constant images, and for two grey values with blurred edges,
    as compressed and resized masks have.
    """
    counts = np.array(image.histogram())
    greys = np.flatnonzero(counts)
    low, high = int(greys[0]), int(greys[-1])
    if len(greys) <= MOST_GREYS or high - low < _SPREAD:
        return True
    middle = (low + high + 1) // 2
    ends = [int(counts[:middle].argmax()), middle + int(counts[middle:].argmax())]
    black, white = (_count_around(counts, grey, _SPREAD) for grey in ends)
    flat, pixels = sum(_count_around(counts, grey, _FLAT) for grey in ends), int(counts.sum())
    # Dark ultrasound images have many dim pixels of all greys; in a mask, only edges are not flat.
    elsewhere = pixels - black - white
    edges_only = elsewhere <= max(min(black, white, _MOST_ELSEWHERE * pixels), _SMALL_LESION * pixels)
    return edges_only and flat >= _LEAST_FLAT * pixels


def _count_around(counts: NDArray[np.int64], grey: int, distance: int) -> int:
    return int(counts[max(0, grey - distance) : grey + distance + 1].sum())
