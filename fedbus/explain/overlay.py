"""The picture of a map: the image, and beside it the image with the map in colour."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from fedbus.explain.grad_cam import Maps, resize_maps

COLOURS = "viridis"
"""Distinguishable with every kind of colour vision, and brighter where the value is larger."""

OPACITY = 0.6
"""Of the colour where the map is largest; where it is 0, the image stays grey."""

SMALLEST, LARGEST = 320, 640
"""Limits for the longer side of an image in the picture, in pixels."""

MARGIN, GAP, LINE = 12, 8, 20
"""Distances and the height of a line of text, in pixels."""

PAPER, INK = (255, 255, 255), (28, 39, 51)

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LEGEND = ("none", "most")


def scale_map(found: Maps) -> Maps:
    """Scale a map [h, w] to a maximum of 1; 0 stays 0, since it has a meaning. A map of zeros stays as it is."""
    largest = found.max()
    return found / largest if largest > 0 else found


def blend(grey: NDArray[np.uint8], found: Maps) -> NDArray[np.uint8]:
    """Colour an image by a map.

    Args:
        grey: uint8 [H, W].
        found: float32 [h, w], at least 0, of any scale.

    Returns:
        uint8 [H, W, 3].
    """
    strength = resize_maps(scale_map(found)[None], (grey.shape[0], grey.shape[1]))[0]
    colour = _colours()[(strength * 255).round().astype(np.uint8)]
    opacity = OPACITY * strength[..., None]
    shown = (1 - opacity) * grey[..., None] + opacity * colour
    return np.asarray(shown.round(), dtype=np.uint8)


def draw_overlay(image: Image.Image, found: Maps, lines: Sequence[str]) -> Image.Image:
    """Draw the image, the image with its map, a legend and lines of text.

    Args:
        image: The image, grey, at full size.
        found: float32 [h, w], at least 0.
        lines: Text below the images, wrapped to their width.
    """
    factor = min(max(1.0, SMALLEST / max(image.size)), LARGEST / max(image.size))
    size = max(1, round(image.width * factor)), max(1, round(image.height * factor))
    grey = np.asarray(image.convert("L").resize(size, Image.Resampling.BILINEAR))
    width = max(2 * size[0] + GAP, SMALLEST) + 2 * MARGIN
    font = ImageFont.load_default(14)
    wrapped = [part for line in lines for part in _wrap(line, width - 2 * MARGIN, font)]
    top = MARGIN + size[1] + GAP
    picture = Image.new("RGB", (width, top + LINE * (1 + len(wrapped)) + GAP + MARGIN), PAPER)
    picture.paste(Image.fromarray(grey), (MARGIN, MARGIN))
    picture.paste(Image.fromarray(blend(grey, found)), (MARGIN + size[0] + GAP, MARGIN))
    draw = ImageDraw.Draw(picture)
    _draw_legend(picture, draw, font, top)
    for number, line in enumerate(wrapped):
        draw.text((MARGIN, top + GAP + LINE * (1 + number)), line, fill=INK, font=font)
    return picture


def _draw_legend(picture: Image.Image, draw: ImageDraw.ImageDraw, font: Font, top: int) -> None:
    """Draw the colours as they look on grey, from no contribution to the largest."""
    ramp = np.tile(np.linspace(0, 1, 120, dtype=np.float32), (LINE - 6, 1))
    bar = Image.fromarray(blend(np.full(ramp.shape, 128, dtype=np.uint8), ramp))
    draw.text((MARGIN, top), LEGEND[0], fill=INK, font=font)
    left = MARGIN + round(font.getlength(LEGEND[0])) + GAP
    picture.paste(bar, (left, top + 3))
    draw.text((left + bar.width + GAP, top), LEGEND[1], fill=INK, font=font)


def _wrap(line: str, width: int, font: Font) -> list[str]:
    """Break a line at spaces to fit a width; a longer word keeps a line to itself."""
    parts: list[str] = []
    for word in line.split(" "):
        longer = f"{parts[-1]} {word}" if parts else word
        if parts and font.getlength(longer) <= width:
            parts[-1] = longer
        else:
            parts.append(word)
    return parts


@cache
def _colours() -> NDArray[np.float32]:
    """The colour map as float32 [256, 3], 0 to 255."""
    from matplotlib import colormaps

    return np.asarray(colormaps[COLOURS](np.linspace(0, 1, 256))[:, :3] * 255, dtype=np.float32)
