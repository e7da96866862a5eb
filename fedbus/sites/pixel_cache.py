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
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.datasets.manifest import Manifest
from fedbus.errors import ImageError, listed
from fedbus.images.burned_in import DETECTOR, find_annotations, paint_over
from fedbus.images.decode import DECODER, decode_image, resize_image
from fedbus.images.fingerprint import HASH_BYTES, perceptual_hash, pixel_digest
from fedbus.system.files import write_whole
from fedbus.system.progress import Advance

ROWS_AT_A_TIME = 4096
"""Each waits as an object of a kilobyte for its turn to be decoded."""


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


def decode_archive(
    manifest: Manifest, size: int, cache: Path, advance: Advance = lambda _: None, *, mask_annotations: bool = False
) -> Pixels:
    """Decode every picture of a manifest at [size, size], or map what an earlier run decoded.

    Args:
        manifest: the archive.
        size: pixels a side.
        cache: the folder of what was decoded.
        advance: told of every picture.
        mask_annotations: burned-in marks are painted over before a picture is resized. Hashes and digests stay those of
            the picture as it came, so that rows are grouped and split alike with marks and without.

    Raises:
        ImageError: one or more pictures can't be used; all of them are named.
    """
    decoder = f"{DECODER} {DETECTOR}" if mask_annotations else DECODER
    key = hashlib.sha256("\n".join([decoder, str(size), *(r.content for r in manifest.rows)]).encode()).hexdigest()
    images_path, prints_path = (
        cache / "pixels" / f"{key[:32]}.npy",
        cache / "pixels" / f"{key[:32]}-prints.npy",
    )
    with suppress(OSError, ValueError, EOFError):  # not decoded yet, or cut short by a crash of the machine
        pixels = _map(images_path, prints_path)
        advance(len(manifest.rows))
        return pixels
    prepare = without_annotations if mask_annotations else _as_it_is
    prints = np.empty((len(manifest.rows), 2 * HASH_BYTES), dtype=np.uint8)
    write_whole(images_path, lambda temporary: _decode_into(temporary, manifest, size, prepare, prints, advance))
    write_whole(prints_path, lambda temporary: np.save(temporary, prints))
    return _map(images_path, prints_path)


def _map(images_path: Path, prints_path: Path) -> Pixels:
    prints = np.load(prints_path)
    return Pixels(
        images=np.load(images_path, mmap_mode="r"),
        hashes=prints[:, :HASH_BYTES],
        digests=prints[:, HASH_BYTES:],
        path=images_path,
    )


def without_annotations(picture: Image.Image) -> Image.Image:
    """Paint calipers and text of a grey picture over."""
    grey = np.asarray(picture)
    return Image.fromarray(paint_over(grey, find_annotations(grey)))


def _as_it_is(picture: Image.Image) -> Image.Image:
    return picture


def _decode_into(
    path: Path,
    manifest: Manifest,
    size: int,
    prepare: Callable[[Image.Image], Image.Image],
    prints: NDArray[np.uint8],
    advance: Advance,
) -> None:
    """Write every picture to an .npy file as soon as it is decoded, and its fingerprint to its row of `prints`.

    The file is not mapped for writing: a full disk would end the process, where a failed write is an error.
    """
    failures: list[ImageError] = []
    turn = Lock()
    with path.open("wb") as file, ThreadPoolExecutor(os.cpu_count()) as pool:
        shape = (len(manifest.rows), size, size)
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        start = file.tell()

        def decode(index: int) -> None:
            try:
                picture = decode_image(manifest.root / manifest.rows[index].path)
            except ImageError as error:
                failures.append(error)
                return
            pixels = resize_image(prepare(picture), size).tobytes()
            content = np.frombuffer(pixel_digest(picture), dtype=np.uint8)
            prints[index] = np.concatenate([perceptual_hash(picture), content])
            with turn:
                file.seek(start + index * len(pixels))
                file.write(pixels)
            advance(1)

        # Pillow decodes and resizes without the interpreter lock, so threads are enough.
        for first in range(0, len(manifest.rows), ROWS_AT_A_TIME):
            list(pool.map(decode, range(first, min(first + ROWS_AT_A_TIME, len(manifest.rows)))))
    if failures:
        failures.sort(key=str)
        problems = listed([f.problem.rstrip(".") for f in failures])
        raise ImageError(
            f"{len(failures)} picture(s) of {manifest.site} can't be used: {problems}.", failures[0].remedy
        )
