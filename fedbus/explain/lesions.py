"""The test images of a run whose lesions are outlined."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedbus.datasets.lesion_masks import find_mask_files, read_lesion_mask, resize_lesion_mask
from fedbus.datasets.registry import check_folder
from fedbus.images.decode import decode_image
from fedbus.settings.schema import SiteSource
from fedbus.sites.site import Site
from fedbus.system.progress import Advance


@dataclass(frozen=True, eq=False)
class LesionImages:
    """Test images of one site, each with an outlined lesion.

    Attributes:
        images: uint8 [N, H, W], as models see them.
        masks: bool [N, H, W], True inside the lesion; none is empty.
        groups: str [N], rows that must stay together, unique across sites.
        without: Test images without a lesion that is outlined.
        too_small: Test images whose lesion is smaller than a pixel at this size.
    """

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    groups: NDArray[np.str_]
    without: int
    too_small: int


def read_lesion_images(site: Site, source: SiteSource, advance: Advance = lambda _: None) -> LesionImages:
    """Read the masks of a site's test images.

    Args:
        site: The site of a finished run.
        source: Its dataset.
        advance: Called after every image.

    Raises:
        ArchiveError: If the dataset is no longer where it was.
        ImageError: If an image or a mask can't be decoded, or they differ in size; the message names the file.
    """
    check_folder(source.reader, source.path, site.name)
    rows = site.splits["test"]
    files = find_mask_files(source.reader, source.path, site.paths[rows].tolist())
    size = site.pixels.shape[1]

    def read(image: Path, masks: Sequence[Path]) -> tuple[bool, NDArray[np.bool_]]:
        mask = read_lesion_mask(image, decode_image(image).size, masks) if masks else None
        advance(1)
        if mask is None:
            return False, np.zeros((size, size), dtype=np.bool_)
        return bool(mask.any()), resize_lesion_mask(mask, size)

    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the interpreter lock
        found = list(pool.map(read, [source.path / path for path in site.paths[rows]], files))
    outlined = np.array([lesion for lesion, _ in found], dtype=np.bool_)
    masks = np.array([mask for _, mask in found], dtype=np.bool_).reshape(-1, size, size)
    kept = outlined & masks.any(axis=(1, 2))
    return LesionImages(
        images=site.pixels[rows[kept]],
        masks=masks[kept],
        groups=np.array([f"{site.name}/{group}" for group in site.groups[rows[kept]]], dtype=np.str_),
        without=int((~outlined).sum()),
        too_small=int((outlined & ~kept).sum()),
    )
