"""Inspect a dataset before a site trains on it: decode every image once and compare each with each."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fedbus.datasets.manifest import Manifest, Row
from fedbus.datasets.registry import find_reader, read_dataset
from fedbus.errors import ImageError, SplitError
from fedbus.images.decode import split_frame, stored_mode
from fedbus.images.fingerprint import HASH_BYTES, perceptual_hash, pixel_digest
from fedbus.images.masks import has_mask_greys
from fedbus.images.remarks import describe_remarks, remarks_of
from fedbus.settings.load import build_settings
from fedbus.sites.decoding import decode_images
from fedbus.sites.groups import Pair, identical_rows, near_pairs
from fedbus.sites.inspection import DuplicatePair, Inspection, Unreadable
from fedbus.sites.masks import find_masks, mask_note
from fedbus.sites.notes import dataset_notes, split_notes
from fedbus.sites.pixel_cache import PixelCache
from fedbus.sites.split import SPLITS
from fedbus.sites.split_dataset import GroupedRows, group_dataset, split_dataset
from fedbus.system.progress import Advance


def inspect_dataset(
    reader: str,
    root: Path,
    site: str,
    near_bits: int,
    progress: Callable[[str, int], Advance] | None = None,
) -> Inspection:
    """Read a dataset and inspect it.

    Args:
        reader: Name of the reader.
        root: The dataset's folder.
        site: Name of the site.
        near_bits: Hashes that differ in at most this many of 256 bits count as near-duplicates.
        progress: Function that makes an `Advance` from the site's name and its number of images.

    Raises:
        SettingsError: If there is no such reader.
        ArchiveError: If the dataset can't be read; a broken image does not raise, it is listed.
    """
    manifest = read_dataset(reader, root, site)
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
        manifest: The dataset.
        reader: Name of the reader that read it.
        near_bits: Hashes that differ in at most this many of 256 bits count as near-duplicates.
        progress: Function that makes an `Advance` from the site's name and its number of images.
        cache: Where to store the images too, if all can be decoded; `prepare_sites` then need not decode them again.

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
    grouped = group_dataset(manifest.site, [each.row for each in seen], digests, pairs)
    unsplittable, folds, notes = _try_split(grouped)
    patients = Counter(row.patient for row in manifest.rows if row.patient is not None)
    masks, doubtful = find_masks([each.row for each in seen], [each.mask_greys for each in seen])
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
        duplicates=_find_duplicates([each.row for each in seen], digests, pairs),
        near_bits=near_bits,
        unreadable=tuple(_unreadable(manifest, row, error) for row, error in errors.items()),
        unsplittable=unsplittable,
        folds=folds,
        masks=tuple(masks),
        doubtful=len(doubtful),
        notes=(*manifest.notes, *mask_note(doubtful), *_describe_remarks(seen), *dataset_notes(grouped, pairs), *notes),
    )


@dataclass(frozen=True)
class _Image:
    row: Row
    size: tuple[int, int]
    mode: str
    mask_greys: bool
    remarks: tuple[str, ...]
    digest: NDArray[np.uint8]
    hash: NDArray[np.uint8]


def _describe(root: Path, row: Row, image: Image.Image) -> _Image:
    return _Image(
        row=row,
        size=image.size,
        mode=stored_mode(root / row.path),
        mask_greys=has_mask_greys(image),
        remarks=remarks_of(image),
        digest=np.frombuffer(pixel_digest(image), dtype=np.uint8),
        hash=perceptual_hash(image),
    )


def _describe_remarks(images: Sequence[_Image]) -> tuple[str, ...]:
    """Remarks on the images of a dataset, as the pixel cache gives them too."""
    remarks: dict[str, list[str]] = {}
    for image in images:
        for remark in image.remarks:
            remarks.setdefault(remark, []).append(image.row.path)
    return describe_remarks(remarks)


def _unreadable(manifest: Manifest, row: int, error: ImageError) -> Unreadable:
    path = manifest.rows[row].path
    file, _ = split_frame(manifest.root / path)
    return Unreadable(path, error.problem.removeprefix(f"{file} ").rstrip("."), error.remedy)


def _stack(prints: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack(prints) if prints else np.empty((0, HASH_BYTES), dtype=np.uint8)


def _find_duplicates(
    rows: Sequence[Row], digests: NDArray[np.uint8], pairs: Sequence[Pair]
) -> tuple[DuplicatePair, ...]:
    """Pair equal pixels (so also equal files) and close hashes, in the order of the dataset."""
    identical = {pair for same in identical_rows(digests) for pair in combinations(same, 2)}
    bits = dict.fromkeys(identical, 0) | {(pair.first, pair.second): pair.distance for pair in pairs}
    return tuple(
        DuplicatePair(
            first=rows[i].path,
            second=rows[j].path,
            labels=(rows[i].label, rows[j].label),
            bits=bits[i, j],
            identical=(i, j) in identical,
        )
        for i, j in sorted(bits)
    )


def _try_split(dataset: GroupedRows) -> tuple[str | None, int, list[str]]:
    """Split as a comparison does by default, or else as undemandingly as possible.

    Returns:
        Why not even that is possible, or None; the number of folds; and notes on the split.
    """
    default = build_settings({}, "the check")
    if not dataset.rows:
        return None, default.folds, []
    try:
        return None, default.folds, split_notes(split_dataset(dataset, default))
    except SplitError as error:
        problem = error.problem
    fewest = build_settings({"folds": len(SPLITS)}, "the least demanding split")
    try:
        notes = split_notes(split_dataset(dataset, fewest))
    except SplitError as error:
        return str(error), fewest.folds, []
    advice = f"the default, folds = {default.folds}, is too many: use --set folds={fewest.folds}"
    return None, fewest.folds, [f"{advice} ({problem.removeprefix(f'{dataset.site}: ').rstrip('.')})", *notes]


def _range(values: Sequence[int]) -> tuple[int, float, int] | None:
    return (min(values), median(values), max(values)) if values else None
