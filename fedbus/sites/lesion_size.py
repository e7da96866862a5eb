"""How large the lesion of each image is: the share of the image that its mask covers.

Datasets publish no millimetres per pixel, so the share of the image is the only size that all of them have.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fedbus.datasets.lesion_masks import find_mask_files, read_lesion_mask
from fedbus.datasets.manifest import Manifest
from fedbus.errors import ImageError
from fedbus.images.decode import decode_image

COLUMN = "lesion size (% of the image)"
"""Name of the column with lesion sizes."""

NO_LESION = "no lesion"
"""In place of the size, for images of class normal: they are left out of that column's figures."""


def measure_lesions(manifest: Manifest, reader: str) -> tuple[list[str] | None, list[str]]:
    """Measure the lesion of each image.

    Args:
        manifest: The images.
        reader: Name of the reader that read them.

    Returns:
        For each image its lesion's share of the image in percent, `NO_LESION` for a normal one, and an empty cell
        without a usable mask; None if the dataset has no masks. And a note on masks that can't be used.

    Raises:
        ArchiveError: If the dataset is no longer one that the reader accepts.
    """
    rows = manifest.rows
    files = find_mask_files(reader, manifest.root, [row.path for row in rows])
    if not any(files):
        return None, []
    lesions = [i for i, row in enumerate(rows) if row.label != "normal"]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes without the interpreter lock
        found = list(pool.map(lambda i: _measure(manifest.root / rows[i].path, files[i]), lesions))
    cells = [NO_LESION] * len(rows)
    for i, size in zip(lesions, found, strict=True):
        cells[i] = size if isinstance(size, str) else ""
    faults = [size for size in found if not isinstance(size, str)]
    if not faults:
        return cells, []
    first = (
        str(min(faults, key=str)).rstrip(".").replace(f"{manifest.root}/", "")
    )  # reports are shared, without paths of datasets
    return cells, [f"{len(faults)} lesion mask(s) can't be used, so those lesion sizes are unknown; the first: {first}"]


def _measure(image: Path, masks: Sequence[Path]) -> str | ImageError:
    """The size of one lesion as a cell; or why its mask can't be used."""
    if not masks:
        return ""
    try:
        mask = read_lesion_mask(image, decode_image(image).size, masks)
    except ImageError as error:
        return error
    if mask is None or not mask.any():
        return ImageError(f"{masks[0]} has no lesion in it.", "Restore the mask, or remove it.")
    return f"{100 * mask.mean():.4g}"
