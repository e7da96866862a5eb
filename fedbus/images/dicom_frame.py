"""One frame of a DICOM file, decompressed by pydicom or Pillow."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, uid
from pydicom.encaps import get_frame
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array

from fedbus.errors import ImageError
from fedbus.images.dicom_file import declared
from fedbus.images.limits import MOST_FRAMES

YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""Colours that are converted to RGB."""

_PLUGIN_OF = {  # explicit, so that pixels do not depend on which other decoders are installed
    uid.ImplicitVRLittleEndian: "", uid.ExplicitVRLittleEndian: "", uid.ExplicitVRBigEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "", uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "pillow", uid.JPEGExtended12Bit: "pillow",
    uid.JPEG2000: "pillow", uid.JPEG2000Lossless: "pillow",
}  # fmt: skip
_LOSSLESS_JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1)
_ITEM = b"\xfe\xff\x00\xe0"  # starts every fragment


def is_decodable(file: Dataset) -> bool:
    """Return whether a file's compression is supported for its depth and colours."""
    syntax, deep = file.file_meta.TransferSyntaxUID, file.BitsStored > 8
    if syntax in (*_LOSSLESS_JPEG, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        return not deep
    if syntax in uid.JPEG2000TransferSyntaxes:  # Pillow would cut deep colour to 8 bits
        return not (deep and file.SamplesPerPixel > 1)
    return syntax in _PLUGIN_OF


def count_frames(file: Dataset) -> int:
    """Return how many frames a file declares."""
    return int(file.get("NumberOfFrames") or 1)


def choose_frame(path: Path, file: Dataset, frame: int | None) -> int:
    """Return the position of the requested frame, counted from 0.

    Args:
        path: The file, for the error.
        file: Its elements.
        frame: Number of the frame, counted from 1; None: the representative one, else the middle one.

    Raises:
        ImageError: If the file has no such frame, or claims more than `MOST_FRAMES`.
    """
    count = count_frames(file)
    if count > MOST_FRAMES:  # pydicom would count them all
        raise ImageError(f"{path} claims more frames than any scanner makes.", "Export it again from its source.")
    if frame is None:
        representative = declared(file, "RepresentativeFrameNumber")
        return representative - 1 if representative in range(1, count + 1) else (count - 1) // 2
    if not 1 <= frame <= count:
        raise ImageError(
            f"{path} has no frame {frame}.", "Count frames from 1, as viewers do, and correct the column frame."
        )
    return frame - 1


def decode_frame(file: Dataset, position: int) -> NDArray[Any]:
    """Decompress one frame: [H, W] as stored or [H, W, 3] in RGB."""
    syntax = file.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return pixel_array(file, index=position, decoding_plugin=_PLUGIN_OF[syntax])
    stream = _find_stream(file, position)
    if syntax == uid.RLELossless:
        # Run lengths pack up to 64-fold, but never take much more than the pixels themselves.
        if len(stream) > 2 * file.Rows * file.Columns * file.SamplesPerPixel * file.BitsAllocated // 8 + 4096:
            raise ValueError("the stream is longer than the pixels")
        return pixel_array(file, index=position, decoding_plugin=_PLUGIN_OF[syntax])
    with Image.open(BytesIO(stream), formats=["JPEG", "JPEG2000"]) as image:
        if image.size != (file.Columns, file.Rows):  # before decoding, as a small stream may claim any size
            raise ValueError("the stream's size is not the header's")
        if syntax not in _LOSSLESS_JPEG:
            return pixel_array(file, index=position, decoding_plugin=_PLUGIN_OF[syntax])
        stored = np.asarray(image)  # pydicom does not know that Pillow (libjpeg-turbo 3) decodes lossless JPEG too
    if stored.ndim != (2 if file.SamplesPerPixel == 1 else 3):
        raise ValueError("the stream is not grey or not colour, unlike the header")
    return convert_color_space(stored, "YBR_FULL", "RGB") if file.PhotometricInterpretation in YBR else stored


def _find_stream(file: Dataset, position: int) -> bytes:
    """The compressed bytes of one frame."""
    if file.PixelData.count(_ITEM) > MOST_FRAMES:
        raise ValueError("too many fragments")
    offsets = None
    if "ExtendedOffsetTable" in file:
        offsets = (file.ExtendedOffsetTable, file.ExtendedOffsetTableLengths)
    return get_frame(file.PixelData, position, number_of_frames=count_frames(file), extended_offsets=offsets)
