"""From archives to hospitals: decoded, grouped, split, frozen to disk, and opened again by any process."""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.datasets import read_archive
from fedbus.datasets.phantoms import write_phantoms
from fedbus.duplicates import cross_pairs, group_rows, near_pairs
from fedbus.errors import RunError, SettingsError, SplitError
from fedbus.files import write_json
from fedbus.leaky_splits import check_split, leak_parts
from fedbus.manifest import CLASSES, Manifest
from fedbus.pixels import Advance, Pixels, decode_archive
from fedbus.seeds import derive_seed
from fedbus.splits import Split, SplitRow, assign_parts, read_split
from fedbus.study import Study
from fedbus.study_file import DEFAULT_STUDY, build_study, load_study

SITES_FILE = "sites.json"
PHANTOM_SEED = 0


@dataclass(frozen=True)
class Site:
    """One hospital, ready to train on.

    Attributes:
        name: the study's name for it.
        pixels: uint8 [N, H, W], memory-mapped, all pictures of the archive.
        labels: int64 [N], position in `CLASSES`.
        groups: group name of each row; empty for rows that were dropped.
        paths: path of each row inside the archive.
        parts: rows of `train`, `validation` and `test`, int64, distinct; and, where the split leaks on purpose, of
            `held-out` (see `fedbus.leaky_splits`). Only under `split = "balanced-images"` do rows repeat.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    paths: NDArray[np.str_]
    parts: Mapping[str, NDArray[np.int64]]


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
    study: Study,
    out: Path,
    names: Sequence[str] | None = None,
    progress: Callable[[str, int], Advance] | None = None,
) -> dict[str, Site]:
    """Read, decode, group and split the archives of a study, and freeze the result in `out`.

    Writes `out/splits/SITE.csv`, and `out/sites.json` with what the report says of each site.

    Args:
        study: names the archives.
        out: the run folder.
        names: prepare these sites only (a deployed site knows no other); None: all.
        progress: makes an `Advance` from a site's name and its number of pictures.

    Raises:
        SettingsError: the sampler does not go with the split; nothing has been read.
        ArchiveError, ImageError, SplitError: an archive can't be used; nothing has been written.
        RunError: `out` holds sites already, and the archives have changed since.
    """
    check_split(study)
    archives: dict[str, _Archive] = {}
    for name in names or study.sites:
        source = study.sites[name]
        manifest = read_archive(source.reader, source.path, name)
        advance = progress(name, len(manifest.rows)) if progress else lambda _: None
        masked = study.marks == "masked"
        pixels = decode_archive(manifest, study.image_size, study.cache, advance, mask_marks=masked)
        archive = _Archive(
            manifest, pixels, _group(manifest, pixels, study.near_bits), _conflicting_copies(manifest, pixels)
        )
        _drop_copies_of_other_sites(archive, archives.values(), study.near_bits)
        archives[name] = archive
    splits = {name: _split(archive, study) for name, archive in archives.items()}
    facts = {name: _facts(archives[name], splits[name], study) for name in archives}
    if (out / SITES_FILE).is_file() and without_places(read_facts(out)) != without_places(facts):
        raise RunError(
            f"The archives are no longer what they were when {out} was started.",
            "Bring the old files back, or choose another --out.",
        )
    for name, split in splits.items():
        split.write(out / "splits" / f"{name}.csv")
    write_json(out / SITES_FILE, facts)
    return {name: open_site(out, name) for name in archives}


def open_site(out: Path, name: str) -> Site:
    """Open a site that `prepare_sites` froze in `out`; its pixels are mapped, not read.

    Raises:
        RunError: the folder was not prepared, its split was changed, or the decoded pictures were deleted since.
    """
    try:
        facts = json.loads((out / SITES_FILE).read_text(encoding="utf-8"))[name]
        pixels = np.load(facts["pixels"], mmap_mode="r")
    except (OSError, KeyError, ValueError) as error:
        raise RunError(f"{out} holds no prepared data of {name} ({error}).", "Start again in a new --out.") from error
    path = out / "splits" / f"{name}.csv"
    split = read_split(name, path)
    if split.digest != facts["split_digest"]:
        raise RunError(f"{path} was changed after it was frozen.", "Put the old file back, or start in a new --out.")
    rows = np.array(facts["rows"], dtype=np.int64)
    labels = np.full(len(pixels), -1, dtype=np.int64)
    labels[rows] = [CLASSES.index(row.label) for row in split.rows]
    by_row = dict(zip(facts["rows"], split.rows, strict=True))
    groups = np.array([by_row[i].group if i in by_row else "" for i in range(len(pixels))])
    paths = np.array([by_row[i].path if i in by_row else "" for i in range(len(pixels))])
    part_of = np.array([row.part for row in split.rows])
    return Site(name, pixels, labels, groups, paths, {part: rows[part_of == part] for part in split.parts})


def read_facts(out: Path) -> dict[str, Any]:
    """What the report says of each site: counts, patients, groups, dropped rows, notes, digests."""
    facts: dict[str, Any] = json.loads((out / SITES_FILE).read_text(encoding="utf-8"))
    return facts


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


def _split(archive: _Archive, study: Study) -> Split:
    rows, name = archive.manifest.rows, archive.manifest.site
    kept = archive.kept
    if study.limit and len(kept) > study.limit:
        kept = _limited(kept, archive, study)
        lost = {rows[i].label for i in archive.kept} - {rows[i].label for i in kept}
        if lost:
            raise SplitError(
                f"{name}: limit = {study.limit} leaves no image of {', '.join(sorted(lost))}, as groups stay whole.",
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
    parts = assign_parts(
        name,
        labels,
        [archive.groups[i] for i in kept],
        folds=study.folds,
        fold=study.fold,
        validation_fraction=study.validation_fraction,
        seed=study.split_seed,
    )
    if study.split != "groups":
        chosen, parts = leak_parts(name, labels, parts, study)
        kept = [kept[i] for i in chosen]
    return Split(
        name,
        tuple(
            SplitRow(rows[i].path, rows[i].label, rows[i].patient or "", archive.groups[i], part)
            for i, part in zip(kept, parts, strict=True)
        ),
    )


def _limited(kept: Sequence[int], archive: _Archive, study: Study) -> list[int]:
    """At most `limit` rows: whole groups in random order, first so many of each class that a split is possible."""
    members: dict[str, list[int]] = {}
    for i in kept:
        members.setdefault(archive.groups[i], []).append(i)
    generator = np.random.default_rng(derive_seed(study.split_seed, "limit", archive.manifest.site))
    order = [sorted(members)[i] for i in generator.permutation(len(members))]
    commonest = {g: Counter(archive.manifest.rows[i].label for i in members[g]).most_common(1)[0][0] for g in order}
    rank, seen = dict[str, int](), Counter[str]()
    for group in order:
        rank[group] = seen[commonest[group]]
        seen[commonest[group]] += 1
    order.sort(key=lambda g: rank[g] >= study.folds)  # stable: the first `folds` groups of every class come first
    chosen: list[int] = []
    for group in order:
        if len(chosen) + len(members[group]) <= study.limit:
            chosen += members[group]
    return sorted(chosen)


def _facts(archive: _Archive, split: Split, study: Study) -> dict[str, Any]:
    manifest = archive.manifest
    position = {row.path: i for i, row in enumerate(manifest.rows)}
    patients = {row.patient for row in split.rows if row.patient}
    source = study.sites[manifest.site]
    return {
        "reader": source.reader,
        "digest": manifest.digest,
        "split_digest": split.digest,
        "notes": list(manifest.notes),
        "images": len({row.path for row in split.rows}),
        "patients": len(patients) or None,
        "groups": len({row.group for row in split.rows}),
        "dropped": [{"path": manifest.rows[i].path, "reason": why} for i, why in sorted(archive.dropped.items())],
        "parts": split.counts,
        "pixels": str(archive.pixels.path),
        "rows": [position[row.path] for row in split.rows],
    }


def resolve_sites(study: Study) -> Study:
    """A study that names no site gets the three synthetic hospitals (phantoms), written on first use.

    Raises:
        SettingsError: the settings do not fit three sites.
    """
    if study.sites:
        return study
    folders = write_phantoms(study.cache / "phantoms", study.phantom_images, PHANTOM_SEED)
    sources = {name: {"reader": "phantoms", "path": str(path)} for name, path in folders.items()}
    return build_study(study.as_dict() | {"sites": sources}, "the study on phantoms")


def study_of_run(run_config: Mapping[str, Any]) -> Study:
    """The study that `flwr run . --run-config 'study="FILE"'` names; none: the default one on phantoms.

    Raises:
        SettingsError: as `load_study`; or the path is relative, and Flower starts applications in another folder.
    """
    path = Path(str(run_config.get("study") or DEFAULT_STUDY))
    if not path.is_absolute():
        raise SettingsError(f"study = {path} is not an absolute path.", "Flower starts elsewhere; write it in full.")
    return resolve_sites(load_study(path))


def without_places(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of sites without where their decoded copies lie."""
    return {name: {key: fact for key, fact in site.items() if key != "pixels"} for name, site in facts.items()}
