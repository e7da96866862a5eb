"""The pixel cache: a dataset's images as one memory-mapped uint8 array, with a fingerprint of each image.

The key is the contents of the files, the size and the version of the decoder, so an entry is never out of date. The
cache is stored outside run folders, because run folders are passed on.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.datasets.manifest import Manifest
from fedbus.errors import ImageError, RunError, listed
from fedbus.images.burned_in import DETECTOR
from fedbus.images.decode import DECODER
from fedbus.images.fingerprint import HASH_BYTES, perceptual_hash, pixel_digest
from fedbus.images.masks import has_mask_greys
from fedbus.images.model_input import prepare_image
from fedbus.images.remarks import describe_remarks, remarks_of
from fedbus.settings.schema import Settings
from fedbus.sites.decoding import Visit, decode_images
from fedbus.system.files import make_private_folder, read_json, write_json, write_whole
from fedbus.system.progress import Advance

_PRINT_BYTES = 2 * HASH_BYTES + 1
"""Of each image: its hash, its digest, and whether it has the greys of a mask."""


@dataclass(frozen=True)
class Pixels:
    """The decoded images of one dataset, in the order of its manifest.

    Attributes:
        images: uint8 [N, size, size], memory-mapped read-only.
        hashes: uint8 [N, 32], 256-bit difference hashes of the full-size images.
        digests: uint8 [N, 32], SHA-256 of the full-size decoded pixels, equal where images are identical.
        mask_greys: bool [N], whether the full-size image has the grey values of a mask.
        path: File of `images`, for other processes to map.
        notes: Remarks on the images, see `fedbus.images.remarks`.
    """

    images: NDArray[np.uint8]
    hashes: NDArray[np.uint8]
    digests: NDArray[np.uint8]
    mask_greys: NDArray[np.bool_]
    path: Path
    notes: tuple[str, ...]


@dataclass(frozen=True)
class PixelCache:
    """A folder of decoded images of one size.

    Attributes:
        folder: The folder, created on the first write.
        size: Pixels per side.
        mask_annotations: Whether burned-in annotations are painted over before an image is resized. Hashes and digests
            stay those of the original image, so that rows are grouped and split the same way with and without.
    """

    folder: Path
    size: int
    mask_annotations: bool = False

    @classmethod
    def of(cls, settings: Settings) -> "PixelCache":
        """The cache that a comparison uses."""
        return cls(settings.cache, settings.image_size, settings.burned_in == "masked")

    def load(self, manifest: Manifest) -> Pixels | None:
        """Map the images of a manifest; None if they are not stored, or the files were cut short by a crash."""
        images_path, prints_path = self._paths(manifest)
        with suppress(OSError, ValueError, EOFError, KeyError, RunError):
            prints = np.load(prints_path)
            if prints.shape[1:] != (_PRINT_BYTES,):  # stored by a version that did not look for masks
                return None
            remarks = read_json(_remarks_path(images_path))
            return Pixels(
                images=np.load(images_path, mmap_mode="r"),
                hashes=prints[:, :HASH_BYTES],
                digests=prints[:, HASH_BYTES : 2 * HASH_BYTES],
                mask_greys=prints[:, -1] > 0,
                path=images_path,
                notes=describe_remarks(
                    {remark: [manifest.rows[row].path for row in rows] for remark, rows in remarks.items()}
                ),
            )
        return None

    def fill(
        self, manifest: Manifest, advance: Advance = lambda _: None, visit: Visit = lambda _, __: None
    ) -> dict[int, ImageError]:
        """Decode the images of a manifest and store them.

        Args:
            manifest: Manifest of the images to decode.
            advance: Called after every image.
            visit: Called with every full-size image too, see `decode_images`.

        Returns:
            The error of each row that can't be decoded. If there is one, nothing is stored.

        Raises:
            RunError: If the disk is full.
        """
        images_path, prints_path = self._paths(manifest)
        prints = np.empty((len(manifest.rows), _PRINT_BYTES), dtype=np.uint8)
        errors: dict[int, ImageError] = {}
        remarks: dict[int, tuple[str, ...]] = {}

        def note(row: int, image: Image.Image) -> None:
            remarks[row] = remarks_of(image)
            visit(row, image)

        def write(temporary: Path) -> None:
            errors.update(self._decode_into(temporary, manifest, prints, advance, note))
            if errors:
                raise _NotStoredError

        make_private_folder(self.folder)
        with suppress(_NotStoredError):
            write_whole(images_path, write)
            write_whole(prints_path, lambda temporary: np.save(temporary, prints))
            write_json(_remarks_path(images_path), _rows_of(remarks))
        return errors

    def _paths(self, manifest: Manifest) -> tuple[Path, Path]:
        """Files of the images and of their fingerprints."""
        versions = f"{DECODER} {DETECTOR}" if self.mask_annotations else DECODER
        parts = [versions, str(self.size), *(row.content for row in manifest.rows)]
        key = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
        images = self.folder / "pixels" / f"{key}.npy"
        return images, _prints_path(images)

    def _decode_into(
        self, path: Path, manifest: Manifest, prints: NDArray[np.uint8], advance: Advance, visit: Visit
    ) -> dict[int, ImageError]:
        """Write every image to an .npy file as soon as it is decoded, and its fingerprint to its row of `prints`.

        The file is not mapped for writing: a full disk would kill the process, whereas a failed write is an error.
        """
        lock = Lock()
        with path.open("wb") as file:
            shape = (len(manifest.rows), self.size, self.size)
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
            start = file.tell()

            def store(row: int, image: Image.Image) -> None:
                visit(row, image)
                pixels = prepare_image(image, self.size, masked=self.mask_annotations).tobytes()
                digest = np.frombuffer(pixel_digest(image), dtype=np.uint8)
                prints[row] = np.concatenate([perceptual_hash(image), digest, [has_mask_greys(image)]])
                with lock:
                    file.seek(start + row * len(pixels))
                    file.write(pixels)

            return decode_images(manifest, store, advance)


def stored_bytes(images: int, size: int) -> int:
    """Return the disk space that decoded images of a size take, with their fingerprints."""
    return images * (size**2 + 2 * HASH_BYTES)


class _NotStoredError(Exception):
    """Leaves `write_whole` without a file."""


def read_hashes(images: Path) -> NDArray[np.uint8]:
    """Read the difference hashes of decoded images, without their dataset.

    Args:
        images: The file `path` of `Pixels`.

    Returns:
        uint8 [N, 32], in the order of the manifest.

    Raises:
        RunError: If the cache no longer has them.
    """
    path = _prints_path(images)
    try:
        return np.asarray(np.load(path)[:, :HASH_BYTES])
    except (OSError, ValueError, EOFError, IndexError) as error:
        raise RunError(
            f"{path}, the fingerprints of a site's images, is missing or damaged ({error}).",
            "Rerun the comparison with --resume: it decodes the images again.",
        ) from error


def _prints_path(images: Path) -> Path:
    """The file with the fingerprints of decoded images, beside them."""
    return images.with_name(f"{images.stem}-prints.npy")


def _remarks_path(images: Path) -> Path:
    """The file with the rows of each remark, beside the images: names of files are not part of the key."""
    return images.with_name(f"{images.stem}-remarks.json")


def _rows_of(remarks: dict[int, tuple[str, ...]]) -> dict[str, list[int]]:
    """The rows of each remark, in the order of the manifest."""
    rows: dict[str, list[int]] = {}
    for row in sorted(remarks):
        for remark in remarks[row]:
            rows.setdefault(remark, []).append(row)
    return rows


def decode_dataset(manifest: Manifest, cache: PixelCache, advance: Advance = lambda _: None) -> Pixels:
    """Map the images of a manifest from the cache; decode and store them first if they are not in it.

    Raises:
        ImageError: If an image can't be decoded; the message names all such images.
        RunError: If the disk is full.
    """
    pixels = cache.load(manifest)
    if pixels is not None:
        advance(len(manifest.rows))
        return pixels
    errors = cache.fill(manifest, advance)
    if errors:
        by_path = sorted(errors.values(), key=str)
        problems = listed([error.problem.rstrip(".") for error in by_path])
        raise ImageError(f"{len(errors)} image(s) of {manifest.site} can't be used: {problems}.", by_path[0].remedy)
    pixels = cache.load(manifest)
    assert pixels is not None, "written a moment ago"
    return pixels
