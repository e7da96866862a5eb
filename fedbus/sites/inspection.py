"""What a dataset contains, before a site trains on it: counts, patients, sizes, duplicates, broken files."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.datasets.manifest import Manifest, Row
from fedbus.datasets.registry import find_reader, read_archive
from fedbus.errors import ImageError, SplitError, listed
from fedbus.images.decode import split_frame, stored_mode
from fedbus.images.fingerprint import HASH_BYTES, perceptual_hash, pixel_digest
from fedbus.settings.load import build_settings
from fedbus.sites.decoding import decode_images
from fedbus.sites.groups import Pair, identical_rows, near_pairs
from fedbus.sites.pixel_cache import PixelCache
from fedbus.sites.split import SPLITS
from fedbus.sites.split_dataset import group_dataset, split_dataset
from fedbus.system.progress import Advance

MASK_GREYS = 8
"""A picture with no more grey values than this looks like a mask, not like an ultrasound image."""


@dataclass(frozen=True)
class Copy:
    """Two pictures of one archive that are the same, or nearly.

    Attributes:
        first: path inside the archive, before `second` in its order.
        second: path inside the archive.
        labels: of the two.
        bits: in which their 256-bit difference hashes differ.
        identical: equal in every decoded pixel.
    """

    first: str
    second: str
    labels: tuple[str, str]
    bits: int
    identical: bool


@dataclass(frozen=True)
class Unreadable:
    """A picture that can't be decoded, why, and what to do about it."""

    path: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Inspection:
    """What was found in one archive.

    Attributes:
        site: the study's name for the hospital.
        reader: that understood the archive.
        root: the folder that the user named.
        digest: of the manifest.
        counts: images of each class.
        census: published images of each class, None for a hospital's own pictures.
        patients: number of patient ids, None where none are published.
        images_per_patient: median and maximum, None where no ids are published.
        widths: minimum, median and maximum in pixels, None if no picture can be read.
        heights: likewise.
        modes: pictures of each colour mode (Pillow's names: L grey, RGB, RGBA, P palette, 1 black and white), or DICOM.
        copies: every pair of identical or nearly identical pictures.
        near_bits: hashes that differ in at most so many bits count as nearly identical.
        unreadable: every picture that can't be decoded.
        unsplittable: why no study could part it into train, validation and test; None if one can.
        masks: pictures with as few grey values as a mask has; a note names them.
        notes: what the reader noticed, and pictures that look like masks.
    """

    site: str
    reader: str
    root: Path
    digest: str
    counts: dict[str, int]
    census: dict[str, int] | None
    patients: int | None
    images_per_patient: tuple[float, int] | None
    widths: tuple[int, float, int] | None
    heights: tuple[int, float, int] | None
    modes: dict[str, int]
    copies: tuple[Copy, ...]
    near_bits: int
    unreadable: tuple[Unreadable, ...]
    unsplittable: str | None
    masks: int
    notes: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether a study can train on the archive as it is."""
        return not self.unreadable and self.unsplittable is None

    @property
    def exact_copies(self) -> tuple[Copy, ...]:
        """Pairs that are equal in every pixel."""
        return tuple(pair for pair in self.copies if pair.identical)

    @property
    def near_duplicates(self) -> tuple[Copy, ...]:
        """Pairs that are nearly, but not quite, the same."""
        return tuple(pair for pair in self.copies if not pair.identical)

    @property
    def copies_under_two_labels(self) -> tuple[Copy, ...]:
        """Pairs, identical or nearly, whose labels contradict each other; the closest first."""
        pairs = [pair for pair in self.copies if pair.labels[0] != pair.labels[1]]
        return tuple(sorted(pairs, key=lambda pair: (not pair.identical, pair.bits)))

    def to_json(self) -> dict[str, Any]:
        """Give all of it in JSON types, copies and unreadable files in full."""
        reader = find_reader(self.reader)
        return {
            "site": self.site,
            "reader": self.reader,
            "root": str(self.root),
            "usable": self.usable,
            "digest": self.digest,
            "images": sum(self.counts.values()),
            "counts": self.counts,
            "published": self.census,
            "patients": self.patients,
            "images_per_patient": _named(self.images_per_patient, ("median", "maximum")),
            "width": _named(self.widths, ("minimum", "median", "maximum")),
            "height": _named(self.heights, ("minimum", "median", "maximum")),
            "modes": self.modes,
            "near_bits": self.near_bits,
            "exact_copies": [[pair.first, pair.second] for pair in self.exact_copies],
            "near_copies": [[pair.first, pair.second, pair.bits] for pair in self.near_duplicates],
            "copies_under_two_labels": [
                {
                    "files": [pair.first, pair.second],
                    "labels": list(pair.labels),
                    "bits": pair.bits,
                    "identical": pair.identical,
                }
                for pair in self.copies_under_two_labels
            ],
            "unreadable": [
                {"file": each.path, "reason": each.reason, "remedy": each.remedy} for each in self.unreadable
            ],
            "unsplittable": self.unsplittable,
            "notes": list(self.notes),
            "citation": reader.citation,
            "terms": reader.terms,
        }


def inspect_archive(
    reader: str,
    root: Path,
    site: str,
    near_bits: int,
    progress: Callable[[str, int], Advance] | None = None,
) -> Inspection:
    """Read a dataset and inspect it.

    Args:
        reader: name of the reader.
        root: the dataset's folder.
        site: name of the site.
        near_bits: hashes that differ in at most this many of 256 bits count as near-duplicates.
        progress: makes an `Advance` from the site's name and its number of images.

    Raises:
        SettingsError: If there is no such reader.
        ArchiveError: If the dataset can't be read; a broken image does not raise, it is listed.
    """
    manifest = read_archive(reader, root, site)
    return inspect_manifest(manifest, reader, near_bits, progress)


def inspect_manifest(
    manifest: Manifest,
    reader: str,
    near_bits: int,
    progress: Callable[[str, int], Advance] | None = None,
    cache: PixelCache | None = None,
) -> Inspection:
    """Decode every image of a manifest once and compare each with each.

    Args:
        manifest: the dataset.
        reader: that read it.
        near_bits: hashes that differ in at most this many of 256 bits count as near-duplicates.
        progress: makes an `Advance` from the site's name and its number of images.
        cache: stores the images too, if all can be decoded, so that `prepare_sites` need not decode them again.

    Raises:
        RunError: If the disk is full.
    """
    images: dict[int, _Image] = {}

    def visit(row: int, image: Image.Image) -> None:
        images[row] = _describe(manifest.root, manifest.rows[row], image)

    advance = progress(manifest.site, len(manifest.rows)) if progress else lambda _: None
    if cache is None or cache.load(manifest) is not None:
        errors = decode_images(manifest, visit, advance)
    else:
        errors = cache.fill(manifest, advance, visit)
    seen = [images[row] for row in sorted(images)]
    pairs = near_pairs(_stack([each.hash for each in seen]), near_bits)
    digests = _stack([each.digest for each in seen])
    patients = Counter(row.patient for row in manifest.rows if row.patient is not None)
    flat = [each.row.path for each in seen if each.looks_like_mask]
    mask_note = f"{len(flat)} image(s) with at most {MASK_GREYS} grey values, as masks have: {listed(flat)}"
    return Inspection(
        site=manifest.site,
        reader=reader,
        root=manifest.root,
        digest=manifest.digest,
        counts=manifest.counts,
        census=find_reader(reader).census,
        patients=len(patients) or None,
        images_per_patient=(median(patients.values()), max(patients.values())) if patients else None,
        widths=_range([each.size[0] for each in seen]),
        heights=_range([each.size[1] for each in seen]),
        modes=dict(Counter(each.mode for each in seen).most_common()),
        copies=_find_duplicates([each.row for each in seen], digests, pairs),
        near_bits=near_bits,
        unreadable=tuple(_unreadable(manifest, row, error) for row, error in errors.items()),
        unsplittable=_why_unsplittable(manifest.site, [each.row for each in seen], digests, pairs),
        masks=len(flat),
        notes=(*manifest.notes, mask_note) if flat else manifest.notes,
    )


@dataclass(frozen=True)
class _Image:
    row: Row
    size: tuple[int, int]
    mode: str
    looks_like_mask: bool
    digest: NDArray[np.uint8]
    hash: NDArray[np.uint8]


def _describe(root: Path, row: Row, image: Image.Image) -> _Image:
    return _Image(
        row=row,
        size=image.size,
        mode=stored_mode(root / row.path),
        looks_like_mask=image.getcolors(MASK_GREYS) is not None,
        digest=np.frombuffer(pixel_digest(image), dtype=np.uint8),
        hash=perceptual_hash(image),
    )


def _unreadable(manifest: Manifest, row: int, error: ImageError) -> Unreadable:
    path = manifest.rows[row].path
    file, _ = split_frame(manifest.root / path)
    return Unreadable(path, error.problem.removeprefix(f"{file} ").rstrip("."), error.remedy)


def _stack(prints: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(prints) if prints else np.empty((0, HASH_BYTES), dtype=np.uint8)


def _find_duplicates(rows: Sequence[Row], digests: NDArray[np.uint8], pairs: Sequence[Pair]) -> tuple[Copy, ...]:
    """Pair equal pixels (so also equal files) and close hashes, in the order of the dataset."""
    identical = {pair for same in identical_rows(digests) for pair in combinations(same, 2)}
    bits = dict.fromkeys(identical, 0) | {(pair.first, pair.second): pair.distance for pair in pairs}
    return tuple(
        Copy(
            first=rows[i].path,
            second=rows[j].path,
            labels=(rows[i].label, rows[j].label),
            bits=bits[i, j],
            identical=(i, j) in identical,
        )
        for i, j in sorted(bits)
    )


def _why_unsplittable(site: str, rows: Sequence[Row], digests: NDArray[np.uint8], pairs: Sequence[Pair]) -> str | None:
    """Try the least demanding split; say why not even that is possible, or None."""
    if not rows:
        return None
    try:
        split_dataset(
            group_dataset(site, rows, digests, pairs),
            build_settings({"folds": len(SPLITS)}, "the least demanding split"),
        )
    except SplitError as error:
        return f"{error.problem} {error.remedy}"
    return None


def _range(values: Sequence[int]) -> tuple[int, float, int] | None:
    return (min(values), median(values), max(values)) if values else None


def _named(values: Sequence[float] | None, names: Sequence[str]) -> dict[str, float] | None:
    return dict(zip(names, values, strict=True)) if values is not None else None
