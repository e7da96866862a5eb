"""Stored DICOM values to 8-bit grey, in the order of the standard's grey-scale pipeline (PS3.3, C.11.1 and C.11.2).

Grey values go through the modality transformation (a look-up table, or rescale slope and intercept) and then the VOI
transformation (a look-up table, else the first window). Without one, values of up to 8 bits are shown as stored, and
deeper ones are scaled from their minimum and maximum in this image. Colour is reduced by
ITU-R 601 luma, as in every other format.

MONOCHROME1 is inverted, and so is an image whose presentation look-up table is INVERSE, once. Padding is no part of an
image: it does not count in minimum and maximum, and is shown black (C.7.5.1.1.2). Overlays are not drawn.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset
from pydicom.multival import MultiValue
from scipy.special import expit

from fedbus.images.dicom_file import declared
from fedbus.images.dicom_palette import apply_palette
from fedbus.images.remarks import OVERLAYS, SEVERAL_WINDOWS

_FUNCTIONAL_GROUPS = {
    "PixelValueTransformationSequence": ("RescaleIntercept", "RescaleSlope"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth", "VOILUTFunction"),
}
_OVERLAYS = range(0x6000, 0x6020, 2)
_OVERLAY_ROWS, _OVERLAY_BIT = 0x0010, 0x0102

TAGS: list[str | int] = [
    "BitsStored", "PhotometricInterpretation", "PixelRepresentation",
    "PixelPaddingValue", "PixelPaddingRangeLimit", "PresentationLUTShape",
    "ModalityLUTSequence", "RescaleIntercept", "RescaleSlope",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
    "VOILUTFunction", "VOILUTSequence", "WindowCenter", "WindowWidth",
    "RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData",
    "BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData",
    "SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData",
    "SegmentedBluePaletteColorLookupTableData",
    *(group << 16 | element for group in _OVERLAYS for element in (_OVERLAY_ROWS, _OVERLAY_BIT)),
]  # fmt: skip
"""The tags that `to_grey` reads."""


def to_grey(stored: NDArray[Any], header: Dataset) -> Image.Image:
    """Map one frame to 8-bit grey.

    Args:
        stored: [H, W] as stored, or [H, W, 3] in RGB; integers of any width.
        header: Dataset that contains those of `TAGS` that the file has.

    Returns:
        An image of mode L, W by H pixels.

    Raises:
        AttributeError: If the header lacks a tag that its kind of image needs.
    """
    if header.PhotometricInterpretation == "PALETTE COLOR":
        colours = apply_palette(stored, header)
        return _luma(colours, 8 * colours.dtype.itemsize)
    if stored.ndim == 3:
        return _luma(stored, header.BitsStored)
    stored = _without_overlay_bits(stored, header)
    padding = _find_padding(stored, header)
    shown = _display(stored, header, ~padding)
    if header.PhotometricInterpretation == "MONOCHROME1" or declared(header, "PresentationLUTShape") == "INVERSE":
        shown = 255 - shown
    shown[padding] = 0
    return Image.fromarray(np.rint(shown).astype(np.uint8))


def apply_functional_groups(header: Dataset, position: int) -> None:
    """Take over the rescaling and the window of one frame of an enhanced multi-frame file (PS3.3, C.7.6.16).

    Args:
        header: The dataset that `to_grey` will be called with.
        position: Of the frame, counted from 0.
    """
    shared, each = (declared(header, f"{name}FunctionalGroupsSequence") or [] for name in ("Shared", "PerFrame"))
    for groups in [*shared[:1], *each[position : position + 1]]:
        for sequence, names in _FUNCTIONAL_GROUPS.items():
            for group in (declared(groups, sequence) or [])[:1]:
                for name in names:
                    if name in group:
                        header[name] = group[name]


def grey_remarks(header: Dataset) -> Iterator[str]:
    """Remarks on what `to_grey` leaves out."""
    if any(group << 16 | _OVERLAY_ROWS in header for group in _OVERLAYS):
        yield OVERLAYS
    windows = zip(*(_all(header.get(name)) for name in ("WindowCenter", "WindowWidth")), strict=False)
    tables = header.get("VOILUTSequence") or []
    if len(tables or set(windows)) > 1:
        yield SEVERAL_WINDOWS


def _without_overlay_bits(stored: NDArray[Any], header: Dataset) -> NDArray[Any]:
    """Clear the bits above those of the values, where old files keep an overlay."""
    places = [declared(header, group << 16 | _OVERLAY_BIT) for group in _OVERLAYS]
    highest = max(place if isinstance(place, int) else 0 for place in places)
    if header.PixelRepresentation or highest < header.BitsStored:
        return stored
    return np.asarray(stored & stored.dtype.type(2**header.BitsStored - 1))


def _find_padding(stored: NDArray[Any], header: Dataset) -> NDArray[np.bool_]:
    """The pixels that only fill the rectangle, by their value (PS3.3, C.7.5.1.1.2)."""
    ends = [declared(header, name) for name in ("PixelPaddingValue", "PixelPaddingRangeLimit")]
    if not isinstance(ends[0], int):
        return np.zeros(stored.shape, dtype=bool)
    other = ends[1] if isinstance(ends[1], int) else ends[0]
    return np.asarray((stored >= min(ends[0], other)) & (stored <= max(ends[0], other)))


def _luma(colours: NDArray[Any], bits: int) -> Image.Image:
    eight = np.rint(np.clip(colours * (255 / (2**bits - 1)), 0, 255)).astype(np.uint8)
    return Image.fromarray(eight).convert("L")


def _display(stored: NDArray[Any], header: Dataset, inside: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Grey values from 0 to 255, not yet rounded; those inside the image are right."""
    values = _modality(stored, header)
    if header.get("VOILUTSequence"):
        shown, bits = _look_up(values, header.VOILUTSequence[0], header)
        return np.asarray(np.clip(shown * (255 / (2**bits - 1)), 0, 255))
    window = _first_window(header)
    if window is not None:
        return 255 * _apply_window(values, *window, str(header.get("VOILUTFunction") or "LINEAR"))
    if header.BitsStored <= 8 and not header.PixelRepresentation and not header.get("ModalityLUTSequence"):
        shown = np.asarray(stored * (255 / (2**header.BitsStored - 1)))
        return 255 - shown if (header.get("RescaleSlope") or 1) < 0 else shown
    low, high = (
        float(end(values, where=inside, initial=start)) for end, start in ((np.min, np.inf), (np.max, -np.inf))
    )
    return np.asarray((values - low) * 255 / (high - low)) if high > low else np.zeros(values.shape)


def _modality(stored: NDArray[Any], header: Dataset) -> NDArray[np.float64]:
    if header.get("ModalityLUTSequence"):
        return _look_up(stored, header.ModalityLUTSequence[0], header)[0]
    slope, intercept = header.get("RescaleSlope"), header.get("RescaleIntercept")
    return np.asarray(stored * float(1 if slope is None else slope) + float(0 if intercept is None else intercept))


def _look_up(values: NDArray[Any], item: Dataset, header: Dataset) -> tuple[NDArray[np.float64], int]:
    """Map values by a table, values outside to its first or last entry; also return the bits of an entry."""
    count, first, bits = item.LUTDescriptor
    table = item.LUTData
    if isinstance(table, bytes):
        order = "<" if header.file_meta.TransferSyntaxUID.is_little_endian else ">"
        # 0 stands for 65536 entries; entries of 8 bits may be packed two to a word.
        table = np.frombuffer(table, "u1" if len(table) == (count or 2**16) else f"{order}u2")
    entries = np.asarray(table, dtype=np.float64)
    return entries[np.clip(np.rint(values).astype(np.int64) - first, 0, len(entries) - 1)], bits


def _first_window(header: Dataset) -> tuple[float, float] | None:
    """Centre and width of the first window; None if it is missing or has no width."""
    values = (_first(header.get("WindowCenter")), _first(header.get("WindowWidth")))
    if any(value in (None, "") for value in values):
        return None
    centre, width = map(float, values)
    return (centre, width) if math.isfinite(centre) and math.isfinite(width) and width > 0 else None


def _apply_window(values: NDArray[np.float64], centre: float, width: float, function: str) -> NDArray[np.float64]:
    """Values from 0 to 1 by the three functions of PS3.3, C.11.2.1.2 and C.11.2.1.3."""
    if function.upper() == "SIGMOID":
        return np.asarray(expit(4 * (values - centre) / width))
    if function.upper() != "LINEAR_EXACT":  # LINEAR counts whole grey levels, from the middle of the first one
        centre, width = centre - 0.5, width - 1
    if width <= 0:
        return (values > centre).astype(np.float64)
    return np.clip((values - centre) / width + 0.5, 0, 1)


def _all(value: Any) -> list[Any]:
    return list(value) if isinstance(value, MultiValue | list) else [value]


def _first(value: Any) -> Any:
    return (value[0] if value else None) if isinstance(value, MultiValue | list) else value
