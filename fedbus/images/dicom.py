"""A frame of a DICOM file to 8-bit grey, cropped to its ultrasound region.

Supported are grey, palette and RGB images, and YBR of 8 bits: uncompressed, deflated, RLE and JPEG 2000 (grey) of any
depth; JPEG, lossless JPEG and JPEG 2000 (colour) of 8 bits. Decoders are those of pydicom and Pillow: GDCM supports
more formats, but kills the process on a damaged file, and pylibjpeg's libjpeg is under the GPL.

Only pixels leave this module. No value of a tag enters an error, a warning or a log. The messages of pydicom's errors
quote values, so they are not passed on.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import Image
from pydicom import Dataset
from pydicom.errors import InvalidDicomError

from fedbus.errors import FedbusError, ImageError
from fedbus.images.dicom_file import declared, keep_quiet, read_dicom
from fedbus.images.dicom_frame import YBR, choose_frame, count_frames, decode_frame, is_decodable
from fedbus.images.dicom_grey import TAGS, apply_functional_groups, grey_remarks, to_grey
from fedbus.images.dicom_region import choose_regions
from fedbus.images.failures import describe_failure
from fedbus.images.limits import LARGE_FILE_BYTES, LARGE_PIXELS, check_pixels, take_turn
from fedbus.images.remarks import (
    COLOUR_PROFILE,
    NOT_SQUARE,
    SEVERAL_FRAMES,
    VERY_LARGE,
    is_uneven,
    is_unusual_profile,
    with_remarks,
)

_WANTED: list[str | int] = [
    *TAGS, "BitsAllocated", "Columns", "ExtendedOffsetTable", "ExtendedOffsetTableLengths", "ICCProfile",
    "NumberOfFrames", "PixelAspectRatio", "PixelData", "PixelSpacing", "PlanarConfiguration",
    "RepresentativeFrameNumber", "Rows", "SamplesPerPixel", "SequenceOfUltrasoundRegions",
]  # fmt: skip
_GREY = ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")


def decode_dicom(path: Path, frame: int | None = None) -> Image.Image:
    """Decode one frame as 8-bit grey and crop it to the ultrasound regions (`fedbus.images.dicom_region`).

    Args:
        path: A DICOM file (Part 10, with preamble).
        frame: Number of the frame, counted from 1, as viewers do; None: the one that the file calls representative,
            else the middle one (the earlier of two).

    Returns:
        An image of mode L, with its remarks. `fedbus.images.dicom_grey` describes how grey values are mapped to 8 bits,
        after cropping.

    Raises:
        ImageError: If the file is missing, damaged or not DICOM, has no image or no such frame, or its compression or
            colours are not supported. The message names the file and quotes no tag.
    """
    keep_quiet()
    try:
        with take_turn(path.stat().st_size > LARGE_FILE_BYTES):
            file = read_dicom(path, _WANTED)
            _check(path, file)
            return _decode_one(path, file, frame)
    except FedbusError:
        raise
    except Exception as error:  # pydicom and its decoders raise errors of any type
        raise _describe(path, error) from None  # not `from error`, whose message may quote tags


def decode_frames(path: Path, frames: Sequence[int]) -> Iterator[Image.Image | ImageError]:
    """Decode several frames of a DICOM file, which is read once.

    Args:
        path: As `decode_dicom`.
        frames: Their numbers, counted from 1.

    Yields:
        Each frame in turn, as `decode_dicom` returns it, or the error that it raises.
    """
    keep_quiet()
    try:
        with take_turn(path.stat().st_size > LARGE_FILE_BYTES):
            file = read_dicom(path, _WANTED)
            _check(path, file)
    except Exception as error:
        failure = error if isinstance(error, ImageError) else _describe(path, error)
        yield from [failure] * len(frames)
        return
    for frame in frames:
        try:
            yield _decode_one(path, file, frame)
        except Exception as error:
            yield error if isinstance(error, ImageError) else _describe(path, error)


def number_of_frames(path: Path) -> int:
    """Return how many frames a DICOM file declares, without reading its pixels.

    Raises:
        ImageError: If the file can't be read, or claims more than any scanner makes.
    """
    keep_quiet()
    try:
        file = read_dicom(path, ["NumberOfFrames"], pixels=False)
        choose_frame(path, file, 1)
        return count_frames(file)
    except FedbusError:
        raise
    except Exception as error:
        raise _describe(path, error) from None


def _decode_one(path: Path, file: Dataset, frame: int | None) -> Image.Image:
    """Decode one frame of a file that has been read and checked; the file stays unchanged."""
    large = file.Rows * file.Columns > LARGE_PIXELS
    with take_turn(large):
        position = choose_frame(path, file, frame)
        stored = decode_frame(file, position)
        header = Dataset(file)  # a copy, because a frame's window must not reach the next frame
        header.file_meta = file.file_meta
        apply_functional_groups(header, position)
        regions = choose_regions(header, stored.shape[1], stored.shape[0])
        image = to_grey(stored[regions.rows, regions.columns], header)
    return with_remarks(image, [*_find_remarks(header, frame), *regions.remarks, *([VERY_LARGE] if large else [])])


def _check(path: Path, file: Dataset) -> None:
    """Refuse a file whose header already shows that it is not supported."""
    if not is_decodable(file):
        raise ImageError(
            f"{path} is encrypted, or its compression is not supported.",
            "Export it decrypted, and uncompressed or as RLE, JPEG 2000, or JPEG of 8 bits.",
        )
    colours = file.PhotometricInterpretation
    if not (colours in (*_GREY, "RGB") or (colours in YBR and file.BitsStored <= 8)):
        raise ImageError(
            f"{path} has colours of a kind that is not supported.", "Export it as grey, RGB or 8-bit YBR_FULL."
        )
    if file.SamplesPerPixel != (1 if colours in _GREY else 3):
        raise ImageError(f"{path} contradicts itself: grey or colour.", "Export it again from its source.")
    check_pixels(path, file.Columns, file.Rows)


def _find_remarks(file: Dataset, frame: int | None) -> Iterator[str]:
    if frame is None and count_frames(file) > 1:
        yield SEVERAL_FRAMES
    if any(is_uneven(declared(file, name)) for name in ("PixelAspectRatio", "PixelSpacing")):
        yield NOT_SQUARE
    profile = declared(file, "ICCProfile")
    if isinstance(profile, bytes) and is_unusual_profile(profile):
        yield COLOUR_PROFILE
    yield from grey_remarks(file)


def _describe(path: Path, error: Exception) -> ImageError:
    """Describe an error without its message, which may quote tags."""
    if failure := describe_failure(path, error):
        return failure
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
