"""A frame of a DICOM file to 8-bit grey, cropped to its ultrasound region; and its patient, as a pseudonym.

Supported are grey, palette and RGB images, and YBR of 8 bits: uncompressed, deflated, RLE and JPEG 2000 (grey) of any
depth; JPEG, lossless JPEG and JPEG 2000 (colour) of 8 bits. Decoders are those of pydicom and Pillow: GDCM supports
more formats, but kills the process on a damaged file, and pylibjpeg's libjpeg is under the GPL.

This module returns only pixels and pseudonyms. No value of a tag enters an error, a warning or a log. The messages of
pydicom's errors quote values, so they are not passed on.
"""

import hashlib
import logging
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread, uid
from pydicom.encaps import get_frame
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import convert_color_space
from pydicom.pixels.utils import pixel_array

from fedbus.errors import FedbusError, ImageError
from fedbus.images.dicom_grey import TAGS, to_grey

SMALLEST_REGION = 16
"""Ultrasound regions narrower or lower than this many pixels are ignored as mistakes."""

LEAST_INSIDE = 0.9
"""An ultrasound region with less of its area inside the image was measured before the image was resized."""

_WANTED = [
    *TAGS, "BitsAllocated", "Columns", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "NumberOfFrames",
    "PixelData", "PlanarConfiguration", "Rows", "SamplesPerPixel", "SequenceOfUltrasoundRegions",
]  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
_YBR = ("YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
_PLUGIN_OF = {  # explicit, so that pixels do not depend on which other decoders are installed
    uid.ImplicitVRLittleEndian: "", uid.ExplicitVRLittleEndian: "", uid.ExplicitVRBigEndian: "",
    uid.DeflatedExplicitVRLittleEndian: "", uid.RLELossless: "pydicom",
    uid.JPEGBaseline8Bit: "pillow", uid.JPEGExtended12Bit: "pillow",
    uid.JPEG2000: "pillow", uid.JPEG2000Lossless: "pillow",
}  # fmt: skip
_LOSSLESS_JPEG = (uid.JPEGLossless, uid.JPEGLosslessSV1)
# The bound at which Pillow refuses an image, for the other decoders too.
_MOST_PIXELS = 2 * (Image.MAX_IMAGE_PIXELS or 2**27)
_TISSUE, _TWO_DIMENSIONAL = 1, 1  # Region Data Type and Region Spatial Format, PS3.3 C.8.5.5.1


def decode_dicom(path: Path, frame: int | None = None) -> Image.Image:
    """Decode one frame as 8-bit grey and crop it to the ultrasound region.

    Of the regions that the file declares, the largest two-dimensional one that shows tissue is kept, else the largest
    two-dimensional one, else the whole image. A region's corners are its first and last pixel; it is clipped to the
    image. Ignored are regions without four integer corners, with less than `LEAST_INSIDE` of their area inside the
    image, or with less than `SMALLEST_REGION` pixels left in either direction.

    Args:
        path: A DICOM file (Part 10, with preamble).
        frame: Number of the frame, counted from 1, as viewers do; None: the middle one (the earlier of two).

    Returns:
        An image of mode L. `fedbus.images.dicom_grey` describes how grey values are mapped to 8 bits, after cropping.

    Raises:
        ImageError: If the file is missing, damaged or not DICOM, has no image or no such frame, or its compression or
            colours are not supported. The message names the file and quotes no tag.
    """
    _keep_quiet()
    try:
        file = dcmread(path, specific_tags=_WANTED)
        _check(path, file)
        stored = _decode_frame(file, _choose_frame(path, file, frame))
        left, upper, right, lower = _choose_region(file, stored.shape[1], stored.shape[0])
        return to_grey(stored[upper:lower, left:right], file)
    except FedbusError:
        raise
    except Exception as error:  # pydicom and its decoders raise errors of any type
        raise _describe(path, error) from None  # not `from error`, whose message may quote tags


def find_patient(path: Path, site: str) -> str | None:
    """Return the pseudonym of a file's patient; None if it names none, or its header can't be read.

    Raises:
        OSError: If the file can't be opened.
    """
    _keep_quiet()
    try:
        header = dcmread(path, specific_tags=["PatientID"], stop_before_pixels=True)
        identity = str(header.get("PatientID") or "").strip()
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # pydicom raises OSError for damage too
            raise
        return None  # decoding the image reports what is wrong with the file
    return pseudonym(site, identity) if identity else None


def pseudonym(site: str, identity: str) -> str:
    """Derive a pseudonym, because split files are passed on: the first 16 hex digits of SHA-256 of site and identity.

    Anyone who knows the site and tries all possible identities can still identify the patient.
    """
    return hashlib.sha256(f"{site}\x1f{identity}".encode()).hexdigest()[:16]


def _keep_quiet() -> None:
    """Silence messages that quote tags. At every call, because other libraries reset the filters; safe in threads."""
    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)  # the level, because its children inherit that
    warnings.filterwarnings("ignore", module=r"pydicom\b.*")


def _check(path: Path, file: Dataset) -> None:
    """Refuse a file whose header already shows that it is not supported."""
    if not _is_decodable(file):
        raise ImageError(
            f"{path} is encrypted, or its compression is not supported.",
            "Export it decrypted, and uncompressed or as RLE, JPEG 2000, or JPEG of 8 bits.",
        )
    colours = file.PhotometricInterpretation
    if not (colours in (*_GREY, "RGB") or (colours in _YBR and file.BitsStored <= 8)):
        raise ImageError(
            f"{path} has colours of a kind that is not supported.", "Export it as grey, RGB or 8-bit YBR_FULL."
        )
    if file.SamplesPerPixel != (1 if colours in _GREY else 3):
        raise ImageError(f"{path} contradicts itself: grey or colour.", "Export it again from its source.")
    if file.Rows * file.Columns > _MOST_PIXELS:
        raise ImageError(f"{path} claims more pixels than any scanner makes.", "Export it again from its source.")


def _is_decodable(file: Dataset) -> bool:
    syntax, deep = file.file_meta.TransferSyntaxUID, file.BitsStored > 8
    if syntax in (*_LOSSLESS_JPEG, uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit):
        return not deep
    if syntax in uid.JPEG2000TransferSyntaxes:  # Pillow would cut deep colour to 8 bits
        return not (deep and file.SamplesPerPixel > 1)
    return syntax in _PLUGIN_OF


def _choose_frame(path: Path, file: Dataset, frame: int | None) -> int:
    """Position of the requested frame, counted from 0."""
    count = int(file.get("NumberOfFrames") or 1)
    if frame is None:
        return (count - 1) // 2
    if not 1 <= frame <= count:
        raise ImageError(
            f"{path} has no frame {frame}.", "Count frames from 1, as viewers do, and correct the column frame."
        )
    return frame - 1


def _decode_frame(file: Dataset, position: int) -> NDArray[Any]:
    """One frame, [H, W] as stored or [H, W, 3] in RGB."""
    syntax = file.file_meta.TransferSyntaxUID
    if syntax not in _LOSSLESS_JPEG:
        return pixel_array(file, index=position, decoding_plugin=_PLUGIN_OF[syntax])
    # pydicom does not know that Pillow (libjpeg-turbo 3) decodes lossless JPEG too.
    count, offsets = int(file.get("NumberOfFrames") or 1), None
    if "ExtendedOffsetTable" in file:
        offsets = (file.ExtendedOffsetTable, file.ExtendedOffsetTableLengths)
    stream = get_frame(file.PixelData, position, number_of_frames=count, extended_offsets=offsets)
    with Image.open(BytesIO(stream), formats=["JPEG"]) as image:
        stored = np.asarray(image)
    if stored.shape != (file.Rows, file.Columns, 3)[: 2 if file.SamplesPerPixel == 1 else 3]:
        raise ValueError("the stream's size is not the header's")
    return convert_color_space(stored, "YBR_FULL", "RGB") if file.PhotometricInterpretation in _YBR else stored


def _choose_region(file: Dataset, width: int, height: int) -> tuple[int, int, int, int]:
    """Left, upper, right and lower edge of the region to keep; right and lower are exclusive."""
    best, best_rank = (0, 0, width, height), (False, 0)
    for item in file.get("SequenceOfUltrasoundRegions") or []:
        corners = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if item.get("RegionSpatialFormat") != _TWO_DIMENSIONAL or not all(isinstance(c, int) for c in corners):
            continue
        left, upper, right, lower = corners[0], corners[1], min(corners[2] + 1, width), min(corners[3] + 1, height)
        if min(left, upper) < 0 or min(right - left, lower - upper) < SMALLEST_REGION:
            continue
        area = (right - left) * (lower - upper)
        if area < LEAST_INSIDE * (corners[2] + 1 - left) * (corners[3] + 1 - upper):
            continue
        rank = (item.get("RegionDataType") == _TISSUE, area)
        if rank > best_rank:
            best, best_rank = (left, upper, right, lower), rank
    return best


def _describe(path: Path, error: Exception) -> ImageError:
    """Describe an error without its message, which may quote tags."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{path} does not exist.", "Restore the file, or remove its row from the list.")
    if isinstance(error, PermissionError):
        return ImageError(f"{path} can't be read ({error.strerror}).", "Check that you may read it.")
    if path.is_file() and path.stat().st_size == 0:
        return ImageError(f"{path} is an empty file.", "Fetch the file again from its source, or remove it.")
    if isinstance(error, InvalidDicomError):
        return ImageError(
            f"{path} is not a DICOM file: it does not have DICM at byte 128.",
            "Export it again as a DICOM file with preamble (Part 10), or give it the ending of its real format.",
        )
    if isinstance(error, AttributeError):
        return ImageError(
            f"{path} contains no image, or does not describe how it is stored.",
            "Export the image itself, not a report or a measurement, or remove the file.",
        )
    return ImageError(
        f"{path} can't be decoded ({type(error).__name__}).", "Export it again from its source, or remove it."
    )
