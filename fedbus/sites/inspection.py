"""What is in an archive, before anybody trains on it: counts, patients, sizes, copies, broken files."""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.datasets.manifest import Manifest, Row
from fedbus.datasets.registry import find_reader, read_archive
from fedbus.errors import ImageError, SplitError, listed
from fedbus.images.decode import decode_image, split_frame, stored_mode
from fedbus.images.fingerprint import perceptual_hash, pixel_digest
from fedbus.settings.load import build_settings
from fedbus.sites.groups import group_rows, near_pairs
from fedbus.sites.split import SPLITS, assign_splits
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
    """Read an archive, decode every picture of it and compare each with each.

    Args:
        reader: name of the reader.
        root: the archive's folder.
        site: the study's name for the hospital.
        near_bits: hashes that differ in at most so many of 256 bits count as nearly identical.
        progress: makes an `Advance` from the site's name and its number of pictures.

    Raises:
        SettingsError: no such reader.
        ArchiveError: the archive can't be read; a broken picture does not raise, it is listed.
    """
    manifest = read_archive(reader, root, site)
    advance = progress(site, len(manifest.rows)) if progress else lambda _: None
    seen, unreadable = _decode_all(manifest, advance)
    patients = Counter(row.patient for row in manifest.rows if row.patient is not None)
    flat = [each.row.path for each in seen if each.looks_like_mask]
    mask_note = f"{len(flat)} pictures have at most {MASK_GREYS} grey values, as masks have: {listed(flat)}"
    return Inspection(
        site=site,
        reader=reader,
        root=root,
        digest=manifest.digest,
        counts=manifest.counts,
        census=find_reader(reader).census,
        patients=len(patients) or None,
        images_per_patient=(median(patients.values()), max(patients.values())) if patients else None,
        widths=_range([each.size[0] for each in seen]),
        heights=_range([each.size[1] for each in seen]),
        modes=dict(Counter(each.mode for each in seen).most_common()),
        copies=_find_copies(seen, near_bits),
        near_bits=near_bits,
        unreadable=unreadable,
        unsplittable=_why_unsplittable(site, seen, near_bits),
        masks=len(flat),
        notes=(*manifest.notes, mask_note) if flat else manifest.notes,
    )


@dataclass(frozen=True)
class _Seen:
    row: Row
    size: tuple[int, int]
    mode: str
    looks_like_mask: bool
    pixels: bytes
    hash: NDArray[np.uint8]


def _decode_all(manifest: Manifest, advance: Advance) -> tuple[list[_Seen], tuple[Unreadable, ...]]:
    def look(row: Row) -> _Seen | Unreadable:
        result = _look(manifest.root, row)
        advance(1)
        return result

    # Pillow decodes without the interpreter lock, so threads are enough.
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(look, manifest.rows))
    return [r for r in results if isinstance(r, _Seen)], tuple(r for r in results if isinstance(r, Unreadable))


def _look(root: Path, row: Row) -> _Seen | Unreadable:
    path = root / row.path
    try:
        picture = decode_image(path)
    except ImageError as error:
        file, _ = split_frame(path)
        return Unreadable(row.path, error.problem.removeprefix(f"{file} ").rstrip("."), error.remedy)
    return _Seen(
        row=row,
        size=picture.size,
        mode=stored_mode(path),
        looks_like_mask=picture.getcolors(MASK_GREYS) is not None,
        pixels=pixel_digest(picture),
        hash=perceptual_hash(picture),
    )


def _find_copies(seen: Sequence[_Seen], near_bits: int) -> tuple[Copy, ...]:
    """Pair equal pixels (so also equal files) and close hashes, in the order of the archive."""
    rows_of: dict[bytes, list[int]] = {}
    for i, each in enumerate(seen):
        rows_of.setdefault(each.pixels, []).append(i)
    bits = {pair: 0 for rows in rows_of.values() for pair in combinations(rows, 2)}
    identical = set(bits)
    if seen:
        near = near_pairs(np.stack([each.hash for each in seen]), near_bits)
        bits |= {(pair.first, pair.second): pair.distance for pair in near}
    return tuple(
        Copy(
            first=seen[i].row.path,
            second=seen[j].row.path,
            labels=(seen[i].row.label, seen[j].row.label),
            bits=bits[i, j],
            identical=(i, j) in identical,
        )
        for i, j in sorted(bits)
    )


def _why_unsplittable(site: str, seen: Sequence[_Seen], near_bits: int) -> str | None:
    """Try the least demanding split; say why not even that can be made, or None."""
    if not seen:
        return None
    labels_of: dict[bytes, set[str]] = {}
    for each in seen:
        labels_of.setdefault(each.pixels, set()).add(each.row.label)
    kept = [each for each in seen if len(labels_of[each.pixels]) == 1]
    if len({each.row.label for each in kept}) < 2:
        return "fewer than two classes are left without the pictures that stand under two labels"
    pairs = near_pairs(np.stack([each.hash for each in kept]), near_bits)
    groups = group_rows([each.row.patient for each in kept], pairs)
    default = build_settings({"folds": len(SPLITS)}, "the laxest split")
    try:
        assign_splits(
            site, [each.row.label for each in kept], groups,
            folds=default.folds, fold=default.fold, validation_fraction=default.validation_fraction,
            seed=default.split_seed,
        )  # fmt: skip
    except SplitError as error:
        return f"{error.problem} {error.remedy}"
    return None


def _range(values: Sequence[int]) -> tuple[int, float, int] | None:
    return (min(values), median(values), max(values)) if values else None


def _named(values: Sequence[float] | None, names: Sequence[str]) -> dict[str, float] | None:
    return dict(zip(names, values, strict=True)) if values is not None else None
