"""Masks among the images of a dataset: files with the grey values of a mask beside the image that they belong to.

A suffix does not tell: `x_tumor`, `x_GT` and `xMask` are masks of `x` only if they look like masks.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from fedbus.datasets.manifest import Row
from fedbus.errors import ArchiveError, listed
from fedbus.images.decode import split_frame

_WORDS = frozenset(
    (
        "annotation", "annotations", "binary", "contour", "contours", "delineation", "gt", "groundtruth", "label",
        "labels", "lesion", "lesions", "map", "mask", "masks", "outline", "roi", "seg", "segm", "segment",
        "segmentation", "segmentations", "tumor", "tumors", "tumour", "tumours",
    )
)  # fmt: skip
"""What names of masks have in front of the image's name, or in place of words like `image`."""

_SEPARATORS = "-_. "


def find_masks(rows: Sequence[Row], mask_greys: Sequence[bool]) -> tuple[list[str], list[str]]:
    """Find the masks among the images of a dataset.

    A file with the grey values of a mask is one if another file with other grey values has a related name: the same
    stem, `x_tumor` or `xMask` for `x`, `GT_x` for `x`, `x` for `x_original`, or `seg_001` for `img_001`. If at least
    half of a class has the grey values of a mask, these are masks too.

    Args:
        rows: Rows of the dataset.
        mask_greys: Whether each has the grey values of a mask.

    Returns:
        The paths of masks, and the paths of other images with the grey values of a mask.
    """
    if not any(mask_greys):
        return [], []
    images = [row for row, flat in zip(rows, mask_greys, strict=True) if not flat]
    names, counts = _Names([row.path for row in images]), Counter(row.label for row in images)
    suspects = [row for row, flat in zip(rows, mask_greys, strict=True) if flat]
    many = {label for label, count in Counter(row.label for row in suspects).items() if count >= counts[label]}
    masks: list[str] = []
    doubtful: list[str] = []
    for row in suspects:
        (masks if row.label in many or names.has_image_of(row.path) else doubtful).append(row.path)
    return masks, doubtful


def mask_note(doubtful: Sequence[str]) -> list[str]:
    """The note on images with the grey values of a mask and no image beside them; none if there is none."""
    return [f"{len(doubtful)} image(s) with the grey values of a mask: {listed(list(doubtful))}"] if doubtful else []


def masks_error(root: Path, masks: Sequence[str]) -> ArchiveError:
    """The error about masks among the images of the dataset at `root`."""
    return ArchiveError(
        f"{root} has {len(masks)} masks among its images: {listed(list(masks))}.",
        "Move the masks out of this folder; `fedbus check` writes all their names to its JSON file. They have the few "
        "grey values of a mask, and either a name like that of another image or a class that is half of such files.",
    )


def refuse_masks(root: Path, masks: Sequence[str]) -> None:
    """Raise ArchiveError if there are masks among the images."""
    if masks:
        raise masks_error(root, masks)


class _Names:
    """The names of images, for finding the one that a mask belongs to.

    A file has no mask in itself: frames of one file have its name in common.
    """

    def __init__(self, paths: Sequence[str]) -> None:
        self._files: dict[str, set[Path]] = {}
        self._beginnings: dict[str, set[Path]] = {}
        self._numbers: dict[tuple[str, ...], set[Path]] = {}
        for file in {split_frame(Path(path))[0] for path in paths}:
            stem = file.stem.casefold()
            self._files.setdefault(stem, set()).add(file)
            self._numbers.setdefault(_numbers(stem), set()).add(file)
            for place, sign in enumerate(stem):
                if sign in _SEPARATORS and stem[:place].strip(_SEPARATORS):
                    self._beginnings.setdefault(stem[:place], set()).add(file)

    def has_image_of(self, mask: str) -> bool:
        file, _ = split_frame(Path(mask))
        stem = file.stem.casefold()
        candidates = [self._files.get(name) for name in _possible_names(stem)]
        candidates.append(self._beginnings.get(stem))
        if _numbers(stem) and _WORDS.intersection(re.findall(r"[a-z]+", stem)):
            candidates.append(self._numbers.get(_numbers(stem)))
        return any(files - {file} for files in candidates if files)


def _possible_names(stem: str) -> list[str]:
    """Names of images that a mask of this name could belong to."""
    names = [stem]
    for place in range(1, len(stem)):
        start, end = stem[:place], stem[place:]
        if not (start[-1].isdigit() and end[0].isdigit()):  # 10 is not a mask of 1
            names.append(start)
        if start[-1] in _SEPARATORS or start in _WORDS:
            names.append(end)
    return names


def _numbers(stem: str) -> tuple[str, ...]:
    return tuple(number.lstrip("0") for number in re.findall(r"\d+", stem))
