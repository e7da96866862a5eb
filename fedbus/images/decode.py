"""An image file to a grey 8-bit image, or an error that names the file."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from fedbus.errors import ImageError

DECODER = "grey-1"
"""Changes whenever `decode_image` or `resize_image` would give other pixels: part of the key of the pixel cache.
`tests/fedbus/images/test_golden.py` fails when a library changes pixels."""

DICOM = ".dcm"
"""The file ending of DICOM, lower case."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", DICOM)
"""File endings that count as images, lower case."""

_WITH_FRAME = re.compile(rf"(.*{re.escape(DICOM)})#(\d+)", re.IGNORECASE | re.DOTALL)


def split_frame(path: Path) -> tuple[Path, int | None]:
    """Split `scan.dcm#12` into the file and its frame, counted from 1; None if no frame is named.

    No image file has a name of that form, because its ending would not be among `SUFFIXES`.
    """
    match = _WITH_FRAME.fullmatch(str(path))
    return (Path(match[1]), int(match[2])) if match else (path, None)


def stored_mode(path: Path) -> str:
    """Return Pillow's name of the mode that an image is stored in, or DICOM."""
    if split_frame(path)[0].suffix.lower() == DICOM:
        return "DICOM"
    with Image.open(path) as image:
        return image.mode


def decode_image(path: Path) -> Image.Image:
    """Decode an image at full size, as 8-bit grey.

    Colour is reduced by ITU-R 601 luma; palettes are resolved; transparency is dropped, not blended,
    because an ultrasound frame saved with an alpha channel is opaque where there is an image.
    DICOM goes through `decode_dicom`; `scan.dcm#12` is its twelfth frame, `scan.dcm` its middle one.

    Raises:
        ImageError: If the file is missing, empty, truncated, not an image, or (except DICOM) has more than 8 bits per
            channel.
    """
    file, frame = split_frame(path)
    if file.suffix.lower() == DICOM:
        from fedbus.images.dicom import decode_dicom  # late: most datasets need no pydicom

        return decode_dicom(file, frame)
    try:
        with Image.open(path) as opened:
            # Pillow opens 16-bit colour as 8-bit RGB; only the raw mode of its tiles (RGB;16B) shows it.
            deep_colour = any(";16" in str(tile) for tile in opened.tile)
            if opened.mode.startswith("I") or opened.mode == "F" or deep_colour:
                raise ImageError(
                    f"{path} has more than 8 bits per channel (opened as {opened.mode}).",
                    "Export it as 8-bit with the window that a radiologist would use.",
                )
            opened.load()
            image = opened.convert("RGBA") if opened.mode == "P" else opened
            if image.mode == "RGBA":
                image = image.convert("RGB")
            return image.convert("L")
    except FileNotFoundError as error:
        raise ImageError(f"{path} does not exist.", "Restore the file, or remove its row from the list.") from error
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError, ValueError) as error:
        size = path.stat().st_size if path.is_file() else 0
        problem = "is an empty file" if size == 0 else f"can't be decoded ({error})"
        raise ImageError(f"{path} {problem}.", "Fetch the file again from its source, or remove it.") from error


def resize_image(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize a grey image to [size, size] uint8, antialiased (Pillow's bilinear filter), ignoring the aspect ratio."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
