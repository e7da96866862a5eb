"""Decode an archive once: uint8 pixels in one memory-mapped file, and a fingerprint of every picture.

The cache is keyed by the contents of the files and the size, so it can't go stale, and it lies outside run folders,
because people pass those on.
"""

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedbus.duplicates import HASH_BYTES, perceptual_hash, pixel_digest
from fedbus.errors import ImageError, listed
from fedbus.files import write_whole
from fedbus.images import DECODER, decode_image, resize_image
from fedbus.manifest import Manifest

Advance = Callable[[int], object]
"""Called with the number of pictures finished since the last call."""


@dataclass(frozen=True)
class Pixels:
    """The decoded pictures of one archive, in the order of its manifest.

    Attributes:
        images: uint8 [N, size, size], memory-mapped read-only.
        hashes: uint8 [N, 32], 256-bit difference hashes of the full-size pictures.
        digests: uint8 [N, 32], SHA-256 of the full-size decoded pixels: equal digests, equal pictures.
        path: the file of `images`, for other processes to map.
    """

    images: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    path: Path


def decode_archive(manifest: Manifest, size: int, cache: Path, advance: Advance = lambda _: None) -> Pixels:
    """Decode every picture of a manifest at [size, size], or map what an earlier run decoded.

    Raises:
        ImageError: one or more pictures can't be used; all of them are named.
    """
    key = hashlib.sha256("\n".join([DECODER, str(size), *(r.content for r in manifest.rows)]).encode()).hexdigest()
    images_path, prints_path = (
        cache / "pixels" / f"{key[:32]}.npy",
        cache / "pixels" / f"{key[:32]}-prints.npy",
    )
    with suppress(OSError, ValueError, EOFError):  # not decoded yet, or cut short by a crash of the machine
        pixels = _map(images_path, prints_path)
        advance(len(manifest.rows))
        return pixels
    images, prints = _decode_all(manifest, size, advance)
    write_whole(prints_path, lambda temporary: np.save(temporary, prints))
    write_whole(images_path, lambda temporary: np.save(temporary, images))
    return _map(images_path, prints_path)


def _map(images_path: Path, prints_path: Path) -> Pixels:
    prints = np.load(prints_path)
    return Pixels(
        images=np.load(images_path, mmap_mode="r"),
        hashes=prints[:, :HASH_BYTES],
        digests=prints[:, HASH_BYTES:],
        path=images_path,
    )


def _decode_all(manifest: Manifest, size: int, advance: Advance) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    images = np.empty((len(manifest.rows), size, size), dtype=np.uint8)
    prints = np.empty((len(manifest.rows), 2 * HASH_BYTES), dtype=np.uint8)
    failures: list[ImageError] = []

    def decode(index: int) -> None:
        try:
            picture = decode_image(manifest.root / manifest.rows[index].path)
        except ImageError as error:
            failures.append(error)
            return
        images[index] = resize_image(picture, size)
        content = np.frombuffer(pixel_digest(picture), dtype=np.uint8)
        prints[index] = np.concatenate([perceptual_hash(picture), content])
        advance(1)

    # Pillow decodes and resizes without the interpreter lock, so threads are enough.
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(decode, range(len(manifest.rows))))
    if failures:
        failures.sort(key=str)
        problems = listed([f.problem.rstrip(".") for f in failures])
        raise ImageError(
            f"{len(failures)} picture(s) of {manifest.site} can't be used: {problems}.", failures[0].remedy
        )
    return images, prints
