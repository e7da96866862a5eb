"""Find calipers and text that are burned into a grey ultrasound picture, and paint them over.

Marks are drawn by a computer: thin and sharp. Tissue is blurred by the beam, most of all sideways, so thin upright
strokes hardly occur in it. A caliper is four thin arms around a point; letters, boxes and arrows have upright strokes.
Slanted crosses and lines without an upright stroke are not found.
"""

import numpy as np
import scipy  # loads scipy.ndimage on first use
from numpy.typing import NDArray

DETECTOR = "marks-1"
"""Changes whenever `find_annotations` or `paint_over` would give other pixels: part of the cache's key."""

SHORT_SIDE = 224
"""Lengths below are pixels of a picture whose short side is this; they grow with the picture."""

ARM_OFFSETS = (2, 3)
"""Where an arm of a caliper is looked for, from its centre, which many scanners leave open."""

HALF_WIDTH = 2
"""An arm or stroke is thinner than twice this."""

CALIPER_CONTRAST = 40
"""Grey levels by which all four arms must exceed what is beside them; `simulations.benchmarks.burned_in_marks` shows what is found."""

STROKE_CONTRAST, STROKE_LENGTH = 70, 5
"""Of an upright stroke: grey levels all along, and length."""

EDGE_CONTRAST = 15
"""Near a mark, thin things that exceed their surroundings by so many grey levels belong to it."""

CALIPER_REACH, STROKE_REACH = 5, 6
"""How far from a caliper's centre, or a stroke, a mark may go on."""

FloatArray = NDArray[np.float32]


def find_annotations(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which pixels belong to calipers or text.

    Args:
        picture: uint8 [H, W], at the size of its source: a reduced picture has lost its marks.

    Returns:
        bool [H, W], marks with a margin of a pixel.
    """
    scale = _scale(picture)
    near = _around(caliper_centres(picture), CALIPER_REACH * scale)
    near |= _around(upright_strokes(picture), STROKE_REACH * scale)
    grey = picture.astype(np.float32)
    sharp = grey - scipy.ndimage.grey_opening(grey, size=2 * HALF_WIDTH * scale + 1) >= EDGE_CONTRAST
    return _around(sharp & near, scale)


def caliper_centres(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which pixels of uint8 [H, W] have a thin bright arm above, below, left and right: bool [H, W]."""
    scale = _scale(picture)
    grey = picture.astype(np.float32)
    offsets = range(ARM_OFFSETS[0] * scale, ARM_OFFSETS[1] * scale + 1)
    arms = []
    for axis in (0, 1):
        ridge = _ridge(grey, 1 - axis, HALF_WIDTH * scale)
        for sign in (-1, 1):
            arms.append(np.max([_shift(ridge, axis, sign * offset) for offset in offsets], axis=0))
    centres: NDArray[np.bool_] = np.min(arms, axis=0) >= CALIPER_CONTRAST
    return centres


def upright_strokes(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Tell which pixels of uint8 [H, W] lie on a thin bright line from top to bottom: bool [H, W]."""
    scale = _scale(picture)
    thin = _ridge(picture.astype(np.float32), 1, HALF_WIDTH * scale) >= STROKE_CONTRAST
    strokes: NDArray[np.bool_] = scipy.ndimage.binary_opening(thin, np.ones((STROKE_LENGTH * scale, 1)))
    return strokes


def paint_over(picture: NDArray[np.uint8], marks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Give marked pixels the mean of the unmarked ones around them, the nearest counting most.

    Args:
        picture: uint8 [H, W].
        marks: bool [H, W].

    Returns:
        uint8 [H, W]; unmarked pixels are those of `picture`.
    """
    if not marks.any() or marks.all():
        return picture
    sigma = 2.0 * _scale(picture)
    kept = (~marks).astype(np.float32)
    weight = scipy.ndimage.gaussian_filter(kept, sigma)
    mean = scipy.ndimage.gaussian_filter(picture * kept, sigma) / np.maximum(weight, 1e-6)
    mean[weight < 1e-4] = np.median(picture[~marks])  # deep inside a large mark, where no neighbour is left
    return np.where(marks, np.clip(np.rint(mean), 0, 255), picture).astype(np.uint8)


def _scale(picture: NDArray[np.uint8]) -> int:
    return max(1, round(int(min(picture.shape)) / SHORT_SIDE))


def _ridge(grey: FloatArray, axis: int, distance: int) -> FloatArray:
    """By how much each pixel exceeds both of its neighbours at a distance along an axis."""
    ridge: FloatArray = grey - np.maximum(_shift(grey, axis, distance), _shift(grey, axis, -distance))
    return ridge


def _shift(grey: FloatArray, axis: int, distance: int) -> FloatArray:
    """At each place the value `distance` further along an axis; beyond the edge, the edge's."""
    places = np.clip(np.arange(grey.shape[axis]) + distance, 0, grey.shape[axis] - 1)
    return np.take(grey, places, axis=axis)


def _around(places: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    wide: NDArray[np.bool_] = scipy.ndimage.maximum_filter(places, size=2 * reach + 1)
    return wide
