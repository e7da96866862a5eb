"""The result of inspecting one dataset: counts, patients, sizes, duplicates, broken files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.datasets.registry import find_reader


@dataclass(frozen=True)
class DuplicatePair:
    """Two images of one dataset that are identical, or nearly.

    Attributes:
        first: Path in the dataset, before `second` in its order.
        second: Path in the dataset.
        labels: Labels of the two.
        bits: Number of bits in which their 256-bit difference hashes differ.
        identical: Whether they are equal in every decoded pixel.
    """

    first: str
    second: str
    labels: tuple[str, str]
    bits: int
    identical: bool


@dataclass(frozen=True)
class Unreadable:
    """An image that can't be decoded, why, and what to do about it."""

    path: str
    reason: str
    remedy: str


@dataclass(frozen=True)
class Inspection:
    """What was found in one dataset.

    Attributes:
        site: Name of the site.
        reader: Name of the reader that read the dataset.
        root: The folder that the user named.
        digest: Digest of the manifest.
        counts: Images of each class.
        census: Published images of each class, None for a site's own images.
        patients: Number of patient ids, None where none are published.
        images_per_patient: Median and maximum, None where no ids are published.
        widths: Minimum, median and maximum in pixels, None if no image can be read.
        heights: The same for heights.
        modes: Images of each colour mode (Pillow's names: L grey, RGB, RGBA, P palette, 1 black and white), or DICOM.
        duplicates: Every pair of identical images or near-duplicates.
        near_bits: Hashes that differ in at most this many of 256 bits count as near-duplicates.
        unreadable: Every image that can't be decoded.
        unsplittable: Why no settings could split it into train, validation and test; None if some can.
        folds: The setting `folds` with which it can be split: the default, or fewer.
        masks: Every image that is a mask; a comparison refuses them.
        doubtful: Number of other images with the grey values of a mask; a note names them.
        notes: What to know before a comparison, which prints the same: what the reader noticed, doubtful images, and
            what `fedbus.sites.notes` finds in the dataset and in its split by default.
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
    duplicates: tuple[DuplicatePair, ...]
    near_bits: int
    unreadable: tuple[Unreadable, ...]
    unsplittable: str | None
    folds: int
    masks: tuple[str, ...]
    doubtful: int
    notes: tuple[str, ...]

    @property
    def usable(self) -> bool:
        """Whether the dataset can be split and trained on without changes."""
        return not self.unreadable and not self.masks and self.unsplittable is None

    @property
    def identical_pairs(self) -> tuple[DuplicatePair, ...]:
        """Pairs that are equal in every pixel."""
        return tuple(pair for pair in self.duplicates if pair.identical)

    @property
    def near_duplicates(self) -> tuple[DuplicatePair, ...]:
        """Pairs that are nearly, but not quite, the same."""
        return tuple(pair for pair in self.duplicates if not pair.identical)

    @property
    def conflicting_pairs(self) -> tuple[DuplicatePair, ...]:
        """Pairs, identical or nearly, under two labels; the closest first."""
        pairs = [pair for pair in self.duplicates if pair.labels[0] != pair.labels[1]]
        return tuple(sorted(pairs, key=lambda pair: (not pair.identical, pair.bits)))

    def to_json(self) -> dict[str, Any]:
        """All of it in JSON types, with every pair of duplicates and every unreadable file."""
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
            "identical_pairs": [[pair.first, pair.second] for pair in self.identical_pairs],
            "near_duplicates": [[pair.first, pair.second, pair.bits] for pair in self.near_duplicates],
            "conflicting_pairs": [
                {
                    "files": [pair.first, pair.second],
                    "labels": list(pair.labels),
                    "bits": pair.bits,
                    "identical": pair.identical,
                }
                for pair in self.conflicting_pairs
            ],
            "unreadable": [
                {"file": each.path, "reason": each.reason, "remedy": each.remedy} for each in self.unreadable
            ],
            "masks": list(self.masks),
            "unsplittable": self.unsplittable,
            "folds": self.folds,
            "notes": list(self.notes),
            "citation": reader.citation,
            "terms": reader.terms,
        }


def _named(values: Sequence[float] | None, names: Sequence[str]) -> dict[str, float] | None:
    return dict(zip(names, values, strict=True)) if values is not None else None
