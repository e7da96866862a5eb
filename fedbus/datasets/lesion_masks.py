"""Where the lesions of an image are, as radiologists outlined them.

Training never reads masks. They measure where a model looked, and how large a lesion is.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.datasets.readers import bus_bra, bus_uclm, busi, labels_csv
from fedbus.errors import ImageError
from fedbus.images.decode import decode_image

_READERS: dict[str, Callable[[Path, Sequence[str]], list[tuple[Path, ...]]]] = {
    "busi": busi.mask_files,
    "bus-uclm": bus_uclm.mask_files,
    "bus-bra": bus_bra.mask_files,
    "labels-csv": labels_csv.mask_files,
}
"""By reader, how its dataset names the mask files of each image."""

_MOST_NOISE = 32
"""Lossy compression moves the black of a mask by at most this many grey levels; lossless masks may use 1 for white."""


def find_mask_files(reader: str, root: Path, paths: Sequence[str]) -> list[tuple[Path, ...]]:
    """Find the mask files of images.

    Args:
        reader: Name of the reader that read the dataset.
        root: The folder that the user named.
        paths: The images, by their paths in the manifest.

    Returns:
        For each image its mask files, several where lesions are in files of their own; none where it has no mask, or
        the dataset publishes none.

    Raises:
        ArchiveError: If the dataset is no longer one that the reader accepts.
    """
    found = _READERS.get(reader)
    return found(root, paths) if found else [() for _ in paths]


def read_lesion_mask(image: Path, size: tuple[int, int], masks: Sequence[Path]) -> NDArray[np.bool_] | None:
    """Read the pixels of an image's lesions; several masks are joined.

    Args:
        image: The image, for errors.
        size: Its full width and height, as decoded.
        masks: Its mask files.

    Returns:
        bool [height, width]; all False for an image whose mask is empty, as those of normal images are. None without a
        mask file.

    Raises:
        ImageError: If a mask can't be decoded, or has another size than the image; the message names both.
    """
    if not masks:
        return None
    lesion = np.zeros((size[1], size[0]), dtype=np.bool_)
    for path in masks:
        mask = decode_image(path)
        if mask.size != size:
            raise ImageError(
                f"{path} is {mask.width} x {mask.height} pixels, but its image {image} is {size[0]} x {size[1]}.",
                "Restore the mask that was drawn on this image, or remove it: the image then counts as one without.",
            )
        grey = np.asarray(mask)
        lesion |= grey > (_MOST_NOISE if grey.max() > 2 * _MOST_NOISE else 0)
    return lesion


def resize_lesion_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Resize a mask bool [H, W] to the model's image size, bool [size, size], as `resize_image` resizes its image.

    A pixel belongs to the lesion if at least half of what it covers does, so a tiny lesion may vanish.
    """
    grey = Image.fromarray(mask.astype(np.uint8) * 255)
    return np.asarray(grey.resize((size, size), Image.Resampling.BILINEAR)) >= 128
