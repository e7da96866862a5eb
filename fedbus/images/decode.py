"""An image file to a grey 8-bit image, or an error that names the file."""

import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.images.file_kind import RASTER_SUFFIXES, is_dicom
from fedbus.images.raster import decode_raster, raster_mode

DECODER = "grey-3"
"""Changes whenever `decode_image` or `resize_image` would give other pixels: part of the key of the pixel cache.
`tests/fedbus/images/test_golden.py` fails when a library changes pixels."""

_WITH_FRAME = re.compile(r"(.*[^/])#(\d+)", re.DOTALL)


def split_frame(path: Path) -> tuple[Path, int | None]:
    """Split `scan.dcm#12` into the file and its frame, counted from 1; None if no frame is named.

    The readers accept no image file whose own name has that form; only DICOM has frames, with any ending or none.
    """
    match = _WITH_FRAME.fullmatch(str(path))
    if match is None or Path(match[1]).suffix.lower() in RASTER_SUFFIXES:
        return path, None
    return Path(match[1]), int(match[2])


def stored_mode(path: Path) -> str:
    """Return Pillow's name of the mode that an image is stored in, or DICOM."""
    file, _ = split_frame(path)
    return "DICOM" if is_dicom(file) else raster_mode(path)


def decode_image(path: Path) -> Image.Image:
    """Decode an image at full size, as 8-bit grey, with its remarks (`fedbus.images.remarks`).

    DICOM goes through `decode_dicom`, every other format through `decode_raster`; `scan.dcm#12` is the twelfth frame of
    a DICOM file, `scan.dcm` its representative or middle one.

    Raises:
        ImageError: If the file is missing, empty, truncated, not an image, (except DICOM) has more than 8 bits per
            channel, or exceeds a limit of `fedbus.images.limits`.
    """
    file, frame = split_frame(path)
    if is_dicom(file):
        from fedbus.images.dicom import decode_dicom  # late: most datasets need no pydicom

        return decode_dicom(file, frame)
    return decode_raster(path)


def resize_image(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Resize a grey image to [size, size] uint8, antialiased (Pillow's bilinear filter), ignoring the aspect ratio."""
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR), dtype=np.uint8)
