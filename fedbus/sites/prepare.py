"""Datasets to sites: decode, group, split, and freeze the result to disk, from where any process opens it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedbus.datasets.manifest import Manifest
from fedbus.datasets.registry import read_dataset
from fedbus.errors import RunError
from fedbus.settings.schema import Settings, SiteSource
from fedbus.sites.groups import cross_pairs, near_pairs
from fedbus.sites.leaky_split import check_split
from fedbus.sites.masks import find_masks, mask_note, refuse_masks
from fedbus.sites.notes import dataset_notes, split_notes
from fedbus.sites.pixel_cache import PixelCache, Pixels, decode_dataset
from fedbus.sites.site import SITES_FILE, SUBGROUP_NOTES, Site, frozen_digests, open_site, split_path
from fedbus.sites.split import SplitTable
from fedbus.sites.split_dataset import GroupedRows, group_dataset, split_dataset
from fedbus.sites.subgroups import find_subgroups, write_subgroups
from fedbus.system.files import write_json
from fedbus.system.open_files import allow_many_files
from fedbus.system.progress import Advance

COPY = "copy of "
"""How the reason of a row begins that is left out because an earlier site has it."""


@dataclass(frozen=True)
class LoadedDataset:
    """A dataset on its way to a site: read, decoded and grouped; with the notes of its reader and about its images."""

    manifest: Manifest
    pixels: Pixels
    grouped: GroupedRows
    notes: tuple[str, ...]


def prepare_sites(
    settings: Settings,
    out: Path,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int], Advance] | None = None,
) -> dict[str, Site]:
    """Read, decode, group and split the datasets of a comparison, and freeze the result in `out`.

    Writes `out/splits/SITE.csv`, and `out/sites.json` with what the report says about each site; for all sites also
    `out/subgroups/SITE.csv` (a deployed site, which names itself, reports no subgroups).

    Args:
        settings: Settings that name the datasets.
        out: The run folder.
        names: Prepare only these sites (a deployed site knows no other); None: all.
        progress: Function that makes an `Advance` from a site's name and its number of images.

    Raises:
        SettingsError: If the sampler does not fit the split, before anything is read; or a column for subgroups does
            not exist, before anything is written.
        ArchiveError, ImageError, SplitError: If a dataset can't be used; nothing has been written.
        RunError: If `out` already contains sites, and the datasets have changed since; or the disk is full.
    """
    check_split(settings)
    allow_many_files()  # every site keeps the file of its images open
    datasets: dict[str, LoadedDataset] = {}
    for name in names or settings.sites:
        dataset = load_dataset(name, settings.sites[name], settings, progress)
        _drop_duplicates_of_other_sites(dataset, list(datasets.values()), settings.near_bits)
        datasets[name] = dataset
    splits = {name: split_dataset(dataset.grouped, settings) for name, dataset in datasets.items()}
    facts = {name: _facts(datasets[name], settings.sites[name].reader, split) for name, split in splits.items()}
    digests = {name: (site["digest"], site["split_digest"]) for name, site in facts.items()}
    if (out / SITES_FILE).is_file() and frozen_digests(out) != digests:
        raise RunError(
            f"The datasets have changed since {out} was started.",
            "Restore the old files, or choose another --out.",
        )
    subgroups = {} if names else find_subgroups({name: each.manifest for name, each in datasets.items()}, settings)
    for name, split in splits.items():
        split.write(split_path(out, name))
    for name, (groups, notes) in subgroups.items():
        write_subgroups(out, name, [row.path for row in datasets[name].manifest.rows], groups)
        facts[name][SUBGROUP_NOTES] = notes
    write_json(out / SITES_FILE, facts)
    return {name: open_site(out, name) for name in splits}


def load_dataset(
    name: str, source: SiteSource, settings: Settings, progress: Callable[[str, int], Advance] | None
) -> LoadedDataset:
    """Read, decode and group one dataset.

    Args:
        name: Name of the site.
        source: Its dataset.
        settings: Settings of the comparison.
        progress: Function that makes an `Advance` from a site's name and its number of images.

    Raises:
        ArchiveError, ImageError: If the dataset can't be used.
        RunError: If the disk is full.
    """
    manifest = read_dataset(source.reader, source.path, name)
    advance = progress(name, len(manifest.rows)) if progress else lambda _: None
    pixels = decode_dataset(manifest, PixelCache.of(settings), advance)
    masks, doubtful = find_masks(manifest.rows, pixels.mask_greys.tolist())
    refuse_masks(source.path, masks)
    pairs = near_pairs(pixels.hashes, settings.near_bits)
    grouped = group_dataset(name, manifest.rows, pixels.digests, pairs)
    notes = (*manifest.notes, *mask_note(doubtful), *pixels.notes, *dataset_notes(grouped, pairs))
    return LoadedDataset(manifest, pixels, grouped, notes)


def _drop_duplicates_of_other_sites(dataset: LoadedDataset, earlier: Sequence[LoadedDataset], near_bits: int) -> None:
    """Drop images that an earlier site has too: they could be in its training rows and in this one's test rows."""
    if not earlier:
        return
    originals = [(other.manifest.site, row.path) for other in earlier for row in other.manifest.rows]
    hashes = np.concatenate([other.pixels.hashes for other in earlier])
    for pair in cross_pairs(hashes, dataset.pixels.hashes, near_bits):
        site, path = originals[pair.first]
        dataset.grouped.dropped.setdefault(pair.second, f"{COPY}{path} of {site}")


def _note_copies(dataset: LoadedDataset) -> list[str]:
    """Count the images that are left out as copies of other sites' images."""
    copies = [why for why in dataset.grouped.dropped.values() if why.startswith(COPY)]
    return [f"{len(copies)} image(s) are left out, because other sites have copies of them"] if copies else []


def _facts(dataset: LoadedDataset, reader: str, split: SplitTable) -> dict[str, Any]:
    """What the report says about a site."""
    rows, dropped = dataset.manifest.rows, dataset.grouped.dropped
    return {
        "reader": reader,
        "digest": dataset.manifest.digest,
        "split_digest": split.digest,
        "notes": [*dataset.notes, *split_notes(split), *_note_copies(dataset)],
        "images": len({row.path for row in split.rows}),
        "patients": len({row.patient for row in split.rows if row.patient}) or None,
        "groups": len({row.group for row in split.rows}),
        "dropped": [{"path": rows[i].path, "reason": why} for i, why in sorted(dropped.items())],
        "splits": split.counts,
        "pixels": str(dataset.pixels.path),
    }
