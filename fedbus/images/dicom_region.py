"""Which part of a DICOM image shows ultrasound: the regions that the file declares (PS3.3, C.8.5.5).

Of the two-dimensional regions that show tissue, the largest is kept, and with it all of equal rank, as in a dual view:
their bounding box. Without tissue, the same holds for the other two-dimensional regions; without any, the whole image
is kept. A region's corners are its first and last pixel; it is clipped to the image. Ignored are regions without four
integer corners, with less than `LEAST_INSIDE` of their area inside the image, or with less than `SMALLEST_REGION`
pixels left in either direction.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from pydicom import Dataset

from fedbus.images.remarks import JOINED_REGIONS, LARGEST_REGION

SMALLEST_REGION = 16
"""Regions narrower or lower than this many pixels are ignored as mistakes."""

LEAST_INSIDE = 0.9
"""A region with less of its area inside the image was measured before the image was resized."""

EQUAL_RANK = 0.7
"""Regions of at least this share of the largest one's area are kept with it; smaller ones are insets."""

_TISSUE, _TWO_DIMENSIONAL = 1, 1  # Region Data Type and Region Spatial Format, PS3.3 C.8.5.5.1

Box = tuple[int, int, int, int]
"""Left, upper, right and lower edge; right and lower are exclusive."""


@dataclass(frozen=True)
class Regions:
    """The rows and columns of an image to keep, and remarks on what is left out or joined."""

    rows: slice
    columns: slice
    remarks: tuple[str, ...] = ()


def choose_regions(header: Dataset, width: int, height: int) -> Regions:
    """Choose the regions to keep of an image of this size."""
    found = list(_sound_regions(header, width, height))
    boxes = [box for tissue, box in found if tissue] or [box for _, box in found]
    if not boxes:
        return Regions(slice(None), slice(None))
    largest = max(map(_area, boxes))
    kept = [box for box in boxes if _area(box) >= EQUAL_RANK * largest]
    left, upper = (min(box[edge] for box in kept) for edge in (0, 1))
    right, lower = (max(box[edge] for box in kept) for edge in (2, 3))
    remarks = [JOINED_REGIONS] if len(set(kept)) > 1 else []
    if any(not _contains((left, upper, right, lower), box) for _, box in found):
        remarks.append(LARGEST_REGION)
    return Regions(slice(upper, lower), slice(left, right), tuple(remarks))


def _sound_regions(header: Dataset, width: int, height: int) -> Iterator[tuple[bool, Box]]:
    """Whether it shows tissue, and the part inside the image, of every two-dimensional region without a fault."""
    for item in header.get("SequenceOfUltrasoundRegions") or []:
        corners = [item.get(f"RegionLocation{name}") for name in ("MinX0", "MinY0", "MaxX1", "MaxY1")]
        if item.get("RegionSpatialFormat") != _TWO_DIMENSIONAL or not all(isinstance(c, int) for c in corners):
            continue
        left, upper, right, lower = corners[0], corners[1], min(corners[2] + 1, width), min(corners[3] + 1, height)
        if min(left, upper) < 0 or min(right - left, lower - upper) < SMALLEST_REGION:
            continue
        if _area((left, upper, right, lower)) < LEAST_INSIDE * (corners[2] + 1 - left) * (corners[3] + 1 - upper):
            continue
        yield item.get("RegionDataType") == _TISSUE, (left, upper, right, lower)


def _area(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])


def _contains(outer: Box, inner: Box) -> bool:
    return outer[0] <= inner[0] and outer[1] <= inner[1] and outer[2] >= inner[2] and outer[3] >= inner[3]
