"""Remarks on decoded images: what a file declares about how to show it, and what the decoder made of that.

A remark is a phrase that follows "N file(s)" in a note of `fedbus check` and of the report.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from PIL import Image

from fedbus.errors import listed

SEVERAL_IMAGES = "contain several images, of which only the first full-size one is used"
SEVERAL_FRAMES = (
    "contain several frames, of which only one is used, the representative or else the middle one; "
    "labels-csv can name others in the column frame"
)
JOINED_REGIONS = "declare several ultrasound regions of equal rank, which are all kept, in one image"
LARGEST_REGION = "declare several ultrasound regions, of which only the largest with tissue is kept"
SEVERAL_WINDOWS = "declare several windows or tables for grey levels, of which the first is used"
OVERLAYS = "have overlays (drawings or text in planes of their own), which are not shown"
TRANSPARENT = "are partly transparent; transparency is ignored"
COLOUR_PROFILE = "declare a colour profile other than sRGB or an unusual gamma, which is not applied"
NOT_SQUARE = "declare pixels that are not square; every image is resized to a square, whatever its shape"
VERY_LARGE = "are larger than any usual ultrasound image"

_KEY = "fedbus-remarks"


def is_unusual_profile(profile: bytes) -> bool:
    """Return whether an ICC profile is another than sRGB, by its description."""
    return bool(profile) and b"sRGB" not in profile and "sRGB".encode("utf-16-be") not in profile


def is_uneven(sides: Any) -> bool:
    """Return whether two numbers, the sides of a pixel, differ by more than 1%; not if a file has anything else."""
    try:
        first, second = map(float, sides)
    except (TypeError, ValueError, ArithmeticError):
        return False
    return 0 < min(first, second) < max(first, second) / 1.01


def with_remarks(image: Image.Image, remarks: Iterable[str]) -> Image.Image:
    """Return the image with these remarks, and without any other information from its file."""
    image.info = {_KEY: tuple(dict.fromkeys(remarks))}
    return image


def remarks_of(image: Image.Image) -> tuple[str, ...]:
    """Return the remarks on an image that `decode_image` returned."""
    return tuple(image.info.get(_KEY, ()))


def describe_remarks(remarks: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Turn the paths of the images of each remark into notes, one per remark."""
    return tuple(f"{len(paths)} file(s) {remark}: {listed(list(paths))}" for remark, paths in sorted(remarks.items()))
