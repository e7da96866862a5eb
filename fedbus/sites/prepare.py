"""From archives to hospitals: decoded, grouped, split, frozen to disk, and opened again by any process."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedbus.datasets.manifest import Manifest
from fedbus.datasets.registry import read_archive
from fedbus.errors import RunError, SplitError
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.sites.groups import cross_pairs, group_rows, near_pairs
from fedbus.sites.leaky_split import check_split, leak_splits
from fedbus.sites.pixel_cache import Pixels, decode_archive
from fedbus.sites.site import SITES_FILE, Site, open_site, read_facts, without_places
from fedbus.sites.split import SplitRow, SplitTable, assign_splits
from fedbus.system.files import write_json
from fedbus.system.progress import Advance


@dataclass
class _Archive:
    """An archive on its way to a site: what it holds, its fingerprints, what was dropped and why."""

    manifest: Manifest
    pixels: Pixels
    groups: list[str]
    dropped: dict[int, str]

    @property
    def kept(self) -> list[int]:
        return [i for i in range(len(self.manifest.rows)) if i not in self.dropped]


def prepare_sites(
    settings: Settings,
    out: Path,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int], Advance] | None = None,
) -> dict[str, Site]:
    """Read, decode, group and split the archives of a study, and freeze the result in `out`.

    Writes `out/splits/SITE.csv`, and `out/sites.json` with what the report says of each site.

    Args:
        settings: names the archives.
        out: the run folder.
        names: prepare these sites only (a deployed site knows no other); None: all.
        progress: makes an `Advance` from a site's name and its number of pictures.

    Raises:
        SettingsError: the sampler does not go with the split; nothing has been read.
        ArchiveError, ImageError, SplitError: an archive can't be used; nothing has been written.
        RunError: `out` holds sites already, and the archives have changed since.
    """
    check_split(settings)
    archives: dict[str, _Archive] = {}
    for name in names or settings.sites:
        source = settings.sites[name]
        manifest = read_archive(source.reader, source.path, name)
        advance = progress(name, len(manifest.rows)) if progress else lambda _: None
        masked = settings.burned_in == "masked"
        pixels = decode_archive(manifest, settings.image_size, settings.cache, advance, mask_annotations=masked)
        archive = _Archive(
            manifest, pixels, _group(manifest, pixels, settings.near_bits), _conflicting_copies(manifest, pixels)
        )
        _drop_copies_of_other_sites(archive, archives.values(), settings.near_bits)
        archives[name] = archive
    splits = {name: _split(archive, settings) for name, archive in archives.items()}
    facts = {name: _facts(archives[name], splits[name], settings) for name in archives}
    if (out / SITES_FILE).is_file() and without_places(read_facts(out)) != without_places(facts):
        raise RunError(
            f"The archives are no longer what they were when {out} was started.",
            "Bring the old files back, or choose another --out.",
        )
    for name, split in splits.items():
        split.write(out / "splits" / f"{name}.csv")
    write_json(out / SITES_FILE, facts)
    return {name: open_site(out, name) for name in archives}


def _group(manifest: Manifest, pixels: Pixels, near_bits: int) -> list[str]:
    return group_rows([row.patient for row in manifest.rows], near_pairs(pixels.hashes, near_bits))


def _conflicting_copies(manifest: Manifest, pixels: Pixels) -> dict[int, str]:
    """Identical pictures under two labels teach a contradiction, and nobody knows which label is right: all go.

    Near-copies under two labels stay, in one group: neighbouring frames of a scan may truly differ in what they show.
    """
    rows_of: dict[bytes, list[int]] = {}
    for row, digest in enumerate(pixels.digests):
        rows_of.setdefault(digest.tobytes(), []).append(row)
    dropped = {}
    for rows in rows_of.values():
        if len({manifest.rows[i].label for i in rows}) > 1:
            for i in rows:
                others = ", ".join(manifest.rows[j].path for j in rows if j != i)
                dropped[i] = f"same picture under another label: {others}"
    return dropped


def _drop_copies_of_other_sites(archive: _Archive, earlier: Iterable[_Archive], near_bits: int) -> None:
    """A picture that an earlier site holds too could stand in its training part and in this one's test part."""
    others = list(earlier)
    if not others:
        return
    originals = [(other.manifest.site, row.path) for other in others for row in other.manifest.rows]
    hashes = np.concatenate([other.pixels.hashes for other in others])
    for pair in cross_pairs(hashes, archive.pixels.hashes, near_bits):
        site, path = originals[pair.first]
        archive.dropped.setdefault(pair.second, f"copy of {path} of {site}")


def _split(archive: _Archive, settings: Settings) -> SplitTable:
    rows, name = archive.manifest.rows, archive.manifest.site
    kept = archive.kept
    if settings.limit and len(kept) > settings.limit:
        kept = _limited(kept, archive, settings)
        lost = {rows[i].label for i in archive.kept} - {rows[i].label for i in kept}
        if lost:
            raise SplitError(
                f"{name}: limit = {settings.limit} leaves no image of {', '.join(sorted(lost))}, as groups stay whole.",
                "Raise --set limit.",
            )
    if len({rows[i].label for i in kept}) < 2:
        example = next((f", e.g. {rows[i].path}: {why}" for i, why in archive.dropped.items()), "")
        raise SplitError(
            f"{name}: {len(kept)} of {len(rows)} images are left, of fewer than two classes; "
            f"{len(archive.dropped)} were dropped as copies{example}.",
            "Check that no archive is named twice; leave this site out, or raise --set limit.",
        )
    labels = [rows[i].label for i in kept]
    parts = assign_splits(
        name,
        labels,
        [archive.groups[i] for i in kept],
        folds=settings.folds,
        fold=settings.fold,
        validation_fraction=settings.validation_fraction,
        seed=settings.split_seed,
    )
    if settings.split != "groups":
        chosen, parts = leak_splits(name, labels, parts, settings)
        kept = [kept[i] for i in chosen]
    return SplitTable(
        name,
        tuple(
            SplitRow(rows[i].path, rows[i].label, rows[i].patient or "", archive.groups[i], split)
            for i, split in zip(kept, parts, strict=True)
        ),
    )


def _limited(kept: Sequence[int], archive: _Archive, settings: Settings) -> list[int]:
    """At most `limit` rows: whole groups in random order, first so many of each class that a split is possible."""
    members: dict[str, list[int]] = {}
    for i in kept:
        members.setdefault(archive.groups[i], []).append(i)
    generator = np.random.default_rng(derive_seed(settings.split_seed, "limit", archive.manifest.site))
    order = [sorted(members)[i] for i in generator.permutation(len(members))]
    commonest = {g: Counter(archive.manifest.rows[i].label for i in members[g]).most_common(1)[0][0] for g in order}
    rank, seen = dict[str, int](), Counter[str]()
    for group in order:
        rank[group] = seen[commonest[group]]
        seen[commonest[group]] += 1
    order.sort(key=lambda g: rank[g] >= settings.folds)  # stable: the first `folds` groups of every class come first
    chosen: list[int] = []
    for group in order:
        if len(chosen) + len(members[group]) <= settings.limit:
            chosen += members[group]
    return sorted(chosen)


def _facts(archive: _Archive, split: SplitTable, settings: Settings) -> dict[str, Any]:
    manifest = archive.manifest
    position = {row.path: i for i, row in enumerate(manifest.rows)}
    patients = {row.patient for row in split.rows if row.patient}
    source = settings.sites[manifest.site]
    return {
        "reader": source.reader,
        "digest": manifest.digest,
        "split_digest": split.digest,
        "notes": list(manifest.notes),
        "images": len({row.path for row in split.rows}),
        "patients": len(patients) or None,
        "groups": len({row.group for row in split.rows}),
        "dropped": [{"path": manifest.rows[i].path, "reason": why} for i, why in sorted(archive.dropped.items())],
        "splits": split.counts,
        "pixels": str(archive.pixels.path),
        "rows": [position[row.path] for row in split.rows],
    }
