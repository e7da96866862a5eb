"""An image file of any format but DICOM to 8-bit grey, shown as the file says: turned upright, its first full page."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import ExifTags, Image, UnidentifiedImageError

from fedbus.errors import FedbusError, ImageError
from fedbus.images.failures import FETCH_AGAIN, describe_failure
from fedbus.images.limits import FORMATS, LARGE_PIXELS, MOST_PAGES, check_pixels, open_regular, take_turn
from fedbus.images.remarks import (
    COLOUR_PROFILE,
    NOT_SQUARE,
    SEVERAL_IMAGES,
    TRANSPARENT,
    VERY_LARGE,
    is_uneven,
    is_unusual_profile,
    with_remarks,
)

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _SAMPLE_FORMAT = 254, 255, 339  # of TIFF
_REDUCED, _MASK, _OLD_REDUCED, _SIGNED = 1, 4, 2, 2

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each orientation of EXIF."""

_USUAL_GAMMA = 0.45455  # of the PNG chunk gAMA: 1 / 2.2
_CODESTREAM = b"\xff\x4f\xff\x51"  # JPEG 2000: start of the codestream, then of its sizes


def decode_raster(path: Path) -> Image.Image:
    """Decode an image at full size, as 8-bit grey, with its remarks (`fedbus.images.remarks`).

    Colour is reduced by ITU-R 601 luma; palettes are resolved; transparency is dropped, not blended,
    because an ultrasound frame saved with an alpha channel is opaque where there is an image.

    Raises:
        ImageError: If the file is missing, empty, truncated, not an image, has more than 8 bits per channel, or exceeds
            a limit of `fedbus.images.limits`.
    """
    _keep_quiet()
    try:
        with open_regular(path) as file, Image.open(file, formats=FORMATS) as opened:
            check_pixels(path, *opened.size)
            remarks = [SEVERAL_IMAGES] if _choose_page(opened) else []
            check_pixels(path, *opened.size)  # of the chosen page
            _check_depth(path, opened)
            large = opened.width * opened.height > LARGE_PIXELS
            with take_turn(large):
                opened.load()
                remarks += [*_find_remarks(opened), *([VERY_LARGE] if large else [])]
                return with_remarks(_turn_upright(_to_grey(opened), opened), remarks)
    except FedbusError:
        raise
    except Exception as error:  # Pillow's decoders raise errors of many types on damaged files
        raise describe_failure(path, error) or _describe(path, error) from error


def raster_mode(path: Path) -> str:
    """Return Pillow's name of the mode that an image is stored in."""
    _keep_quiet()
    with open_regular(path) as file, Image.open(file, formats=FORMATS) as image:
        return image.mode


def _keep_quiet() -> None:
    """Silence warnings that name no file. At every call, because other libraries reset filters; safe in threads."""
    warnings.filterwarnings("ignore", module=r"PIL\b.*")


def _to_grey(image: Image.Image) -> Image.Image:
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    if image.mode == "RGBA":
        image = image.convert("RGB")
    return image.convert("L")


def _choose_page(image: Image.Image) -> bool:
    """Go to the first full-size image of a file; return whether the file contains several."""
    if image.format != "TIFF" or not getattr(image, "is_animated", False):
        return bool(getattr(image, "is_animated", False))
    full = []
    for page in range(MOST_PAGES):
        try:
            image.seek(page)
            full += [] if _is_reduced(image) else [page]
        except Exception:  # the end, or a damaged page after it
            break
    image.seek(full[0] if full else 0)
    return len(full) > 1


def _is_reduced(page: Any) -> bool:
    """Whether a TIFF page is a thumbnail, or the mask of another page."""
    tags = page.tag_v2
    return bool(int(tags.get(_NEW_SUBFILE_TYPE, 0)) & (_REDUCED | _MASK)) or tags.get(_SUBFILE_TYPE) == _OLD_REDUCED


def _check_depth(path: Path, image: Any) -> None:
    """Refuse more than 8 bits per channel: how to map them to grey levels is not in the file."""
    deep = image.mode.startswith("I") or image.mode == "F"
    # Pillow opens deep colour as 8-bit RGB; only the raw mode of its tiles (RGB;16B) shows it.
    deep |= any(re.search(r";(12|16|32)[A-Z]", str(tile)) for tile in image.tile)
    if image.format == "PPM":
        arguments = image.tile[0].args if image.tile else ()
        deep |= isinstance(arguments, tuple) and isinstance(arguments[-1], int) and arguments[-1] > 255
    if image.format == "JPEG2000":
        deep |= _bits_of_jpeg_2000(image.fp) > 8
    if deep:
        raise ImageError(
            f"{path} has more than 8 bits per channel (opened as {image.mode}).",
            "Export it as 8-bit with the window that a radiologist would use.",
        )
    if image.format == "TIFF" and _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ()):
        raise ImageError(f"{path} has signed grey levels.", "Export it as unsigned 8-bit grey.")


def _bits_of_jpeg_2000(file: Any) -> int:
    """The most bits of a component, from the codestream's header (ISO 15444-1, A.5.1); 0 if there is none."""
    position = file.tell()
    file.seek(0)
    header = file.read(2**16)
    file.seek(position)
    start = header.find(_CODESTREAM)
    if start < 0 or len(header) < start + 42:
        return 0
    count = int.from_bytes(header[start + 40 : start + 42])
    return max(((depth & 0x7F) + 1 for depth in header[start + 42 : start + 42 + 3 * count : 3]), default=0)


def _find_remarks(image: Image.Image) -> Iterator[str]:
    """Remarks on a loaded image."""
    info = image.info
    if image.has_transparency_data and image.convert("RGBA").getchannel("A").getextrema()[0] != 255:
        yield TRANSPARENT
    profile = bytes(info.get("icc_profile") or b"")
    gamma = None if profile or "srgb" in info else info.get("gamma")
    if is_unusual_profile(profile) or (gamma is not None and abs(gamma - _USUAL_GAMMA) > 0.01):
        yield COLOUR_PROFILE
    density = info.get("aspect") or info.get("dpi") or info.get("jfif_density") or (1, 1)
    if is_uneven(density):
        yield NOT_SQUARE


def _turn_upright(grey: Image.Image, opened: Image.Image) -> Image.Image:
    """Undo the orientation that EXIF or XMP declares; Pillow has already done so for TIFF."""
    try:
        orientation = 1 if opened.format == "TIFF" else opened.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # a damaged EXIF block does not make the pixels unreadable
        orientation = 1
    return grey.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else grey


def _describe(path: Path, error: Exception) -> ImageError:
    if isinstance(error, UnidentifiedImageError):
        return ImageError(f"{path} can't be decoded (not an image of a supported format).", FETCH_AGAIN)
    return ImageError(f"{path} can't be decoded ({error}).", FETCH_AGAIN)
