"""Decode every image of a manifest, each once."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from fedbus.datasets.manifest import Manifest
from fedbus.errors import ImageError
from fedbus.images.decode import decode_image
from fedbus.system.progress import Advance

Visit = Callable[[int, Image.Image], object]
"""Called with the position of a row in the manifest and its decoded image; in several threads at once."""

ROWS_AT_A_TIME = 4096
"""Queued for the threads; each queued row is an object of a kilobyte, so large datasets are queued in portions."""


def decode_images(manifest: Manifest, visit: Visit, advance: Advance = lambda _: None) -> dict[int, ImageError]:
    """Decode every image and pass it to `visit`; a broken image does not stop the others.

    Args:
        manifest: Manifest of the images to decode.
        visit: Called once for each image that can be decoded, in no fixed order.
        advance: Called after every image.

    Returns:
        The error of each row that can't be decoded, in the order of the manifest.
    """

    def decode(row: int) -> ImageError | None:
        error = None
        try:
            image = decode_image(manifest.root / manifest.rows[row].path)
        except ImageError as caught:
            error = caught
        else:
            visit(row, image)
        advance(1)
        return error

    errors: list[ImageError | None] = []
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # threads are enough: Pillow decodes without the interpreter lock
        for first in range(0, len(manifest.rows), ROWS_AT_A_TIME):
            errors += pool.map(decode, range(first, min(first + ROWS_AT_A_TIME, len(manifest.rows))))
    return {row: error for row, error in enumerate(errors) if error is not None}
