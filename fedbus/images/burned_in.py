"""Find annotations burned into a grey ultrasound image, calipers and text, and paint over them.

Annotations are drawn by a computer: thin and sharp. Tissue is blurred by the beam, most of all sideways, so thin
upright strokes hardly occur in it. A caliper is four thin arms around a point; letters, boxes and arrows have upright
strokes. Slanted crosses and lines without an upright stroke are not found.
"""

import numpy as np
import scipy  # loads scipy.ndimage on first use
from numpy.typing import NDArray
from PIL import Image

DETECTOR = "marks-1"
"""Changes whenever `find_annotations` or `paint_over` would give other pixels: part of the key of the pixel cache."""

SHORT_SIDE = 224
"""Lengths below are in pixels of an image whose short side is this; they are scaled with the image."""

ARM_OFFSETS = (2, 3)
"""Distances from the centre of a caliper at which an arm is expected; many scanners leave the centre open."""

HALF_WIDTH = 2
"""An arm or stroke is thinner than twice this."""

CALIPER_CONTRAST = 40
"""Grey levels by which all four arms must exceed what is beside them; chosen with
`simulations.benchmarks.burned_in_annotations`, which counts what is found."""

STROKE_CONTRAST, STROKE_LENGTH = 70, 5
"""Of an upright stroke: grey levels all along, and length."""

EDGE_CONTRAST = 15
"""Near a caliper or stroke, thin structures that exceed their surroundings by this many grey levels belong to it."""

CALIPER_REACH, STROKE_REACH = 5, 6
"""How far an annotation extends from the centre of a caliper, or from a stroke."""

FloatArray = NDArray[np.float32]


def find_annotations(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the pixels of calipers and text.

    Args:
        image: uint8 [H, W], at its original size: a reduced image has lost its thin annotations.

    Returns:
        bool [H, W], annotations with a margin of one pixel.
    """
    scale = _scale(image)
    near = _dilate(caliper_centres(image), CALIPER_REACH * scale)
    near |= _dilate(upright_strokes(image), STROKE_REACH * scale)
    grey = image.astype(np.float32)
    sharp = grey - scipy.ndimage.grey_opening(grey, size=2 * HALF_WIDTH * scale + 1) >= EDGE_CONTRAST
    return _dilate(sharp & near, scale)


def caliper_centres(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the pixels of uint8 [H, W] with a thin bright arm above, below, left and right: bool [H, W]."""
    scale = _scale(image)
    grey = image.astype(np.float32)
    offsets = range(ARM_OFFSETS[0] * scale, ARM_OFFSETS[1] * scale + 1)
    arms = []
    for axis in (0, 1):
        ridge = _ridge(grey, 1 - axis, HALF_WIDTH * scale)
        for sign in (-1, 1):
            arms.append(np.max([_shift(ridge, axis, sign * offset) for offset in offsets], axis=0))
    centres: NDArray[np.bool_] = np.min(arms, axis=0) >= CALIPER_CONTRAST
    return centres


def upright_strokes(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Find the pixels of uint8 [H, W] on a thin bright line from top to bottom: bool [H, W]."""
    scale = _scale(image)
    thin = _ridge(image.astype(np.float32), 1, HALF_WIDTH * scale) >= STROKE_CONTRAST
    strokes: NDArray[np.bool_] = scipy.ndimage.binary_opening(thin, np.ones((STROKE_LENGTH * scale, 1)))
    return strokes


def paint_over(image: NDArray[np.uint8], annotations: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Replace annotated pixels by the mean of the others around them, weighted by a Gaussian of the distance.

    Args:
        image: uint8 [H, W].
        annotations: bool [H, W].

    Returns:
        uint8 [H, W]; all other pixels are unchanged.
    """
    if not annotations.any() or annotations.all():
        return image
    sigma = 2.0 * _scale(image)
    kept = (~annotations).astype(np.float32)
    weight = scipy.ndimage.gaussian_filter(kept, sigma)
    mean = scipy.ndimage.gaussian_filter(image * kept, sigma) / np.maximum(weight, 1e-6)
    mean[weight < 1e-4] = np.median(image[~annotations])  # deep inside a large annotation, with no other pixel nearby
    return np.where(annotations, np.clip(np.rint(mean), 0, 255), image).astype(np.uint8)


def without_annotations(image: Image.Image) -> Image.Image:
    """Paint over the calipers and text of a grey image, at its original size."""
    grey = np.asarray(image)
    return Image.fromarray(paint_over(grey, find_annotations(grey)))


def _scale(image: NDArray[np.uint8]) -> int:
    return max(1, round(int(min(image.shape)) / SHORT_SIDE))


def _ridge(grey: FloatArray, axis: int, distance: int) -> FloatArray:
    """By how much each pixel exceeds both of its neighbours at a distance along an axis."""
    ridge: FloatArray = grey - np.maximum(_shift(grey, axis, distance), _shift(grey, axis, -distance))
    return ridge


def _shift(grey: FloatArray, axis: int, distance: int) -> FloatArray:
    """The value `distance` further along an axis at each pixel; beyond the edge, that of the edge."""
    pixels = np.clip(np.arange(grey.shape[axis]) + distance, 0, grey.shape[axis] - 1)
    return np.take(grey, pixels, axis=axis)


def _dilate(pixels: NDArray[np.bool_], reach: int) -> NDArray[np.bool_]:
    wide: NDArray[np.bool_] = scipy.ndimage.maximum_filter(pixels, size=2 * reach + 1)
    return wide
