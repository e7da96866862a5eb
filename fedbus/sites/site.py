"""One site, ready to train on, and how it is opened from disk."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.runs.old_names import rename_old_site_facts
from fedbus.sites.split import SplitTable, read_split
from fedbus.system.files import read_json

SITES_FILE = "sites.json"

SUBGROUP_NOTES = "subgroup_notes"
"""Where sites.json has the notes on columns that give no subgroups."""

OLD_POSITIONS = "rows"
"""Where sites.json of version 0.1 has the positions that are now in the split's column `row`."""


@dataclass(frozen=True)
class Site:
    """One site, ready to train on.

    Attributes:
        name: Its name in the settings.
        pixels: uint8 [N, H, W], memory-mapped, all images of the dataset.
        labels: int64 [N], position in `CLASSES`; -1 for rows that were dropped.
        groups: Group name of each row; empty for rows that were dropped.
        paths: Path of each row relative to the dataset's folder; empty for rows that were dropped.
        splits: Rows of `train`, `validation` and `test`, int64, distinct; and, where the split leaks on purpose, of
            `held-out` (see `fedbus.sites.leaky_split`). Only under `split = "balanced-images"` do rows repeat.
    """

    name: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]
    paths: NDArray[np.str_]
    splits: Mapping[str, NDArray[np.int64]]


def open_site(out: Path, name: str) -> Site:
    """Open a site that `prepare_sites` froze in `out`; its pixels are mapped, not read.

    Folders of version 0.1 are opened too: their sites.json has the position of each row.

    Raises:
        RunError: If the folder is not prepared, its split was changed, or the decoded images were deleted.
        SplitError: If the split is missing or damaged.
    """
    try:
        facts = _facts_of_all(out / SITES_FILE)[name]
        pixels = np.load(facts["pixels"], mmap_mode="r")
    except (OSError, KeyError, ValueError) as error:
        raise RunError(
            f"{out} contains no prepared data of {name} ({error}).", "Start again in a new --out."
        ) from error
    path, split = split_path(out, name), frozen_split(out, name, facts)
    if hashlib.sha256(path.read_bytes()).hexdigest() != facts["split_digest"]:
        raise RunError(f"{path} was changed after it was frozen.", "Restore the old file, or start in a new --out.")
    rows = np.array([row.row for row in split.rows], dtype=np.int64)
    labels = np.full(len(pixels), -1, dtype=np.int64)
    labels[rows] = [CLASSES.index(row.label) for row in split.rows]
    by_row = {row.row: row for row in split.rows}
    groups = np.array([by_row[i].group if i in by_row else "" for i in range(len(pixels))])
    paths = np.array([by_row[i].path if i in by_row else "" for i in range(len(pixels))])
    split_of = np.array([row.split for row in split.rows])
    return Site(name, pixels, labels, groups, paths, {split: rows[split_of == split] for split in split.splits})


def _facts_of_all(path: Path) -> Mapping[str, Any]:
    """Read the facts of all sites, once per version of the file: a worker of a simulation opens one site after another.

    Raises:
        OSError, ValueError: If the file is missing or damaged.
    """
    status = path.stat()
    return _parse(path, (status.st_ino, status.st_mtime_ns, status.st_size))


@lru_cache(maxsize=2)
def _parse(path: Path, version: tuple[int, int, int]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def split_path(out: Path, name: str) -> Path:
    """The frozen split of a site in a run folder."""
    return out / "splits" / f"{name}.csv"


def frozen_split(out: Path, name: str, facts: Mapping[str, Any]) -> SplitTable:
    """Read the frozen split of a site.

    Args:
        out: The run folder.
        name: The site.
        facts: The site's entry of sites.json.

    Raises:
        SplitError: If the file is missing or damaged.
    """
    return read_split(name, split_path(out, name), facts.get(OLD_POSITIONS))


def read_facts(out: Path) -> dict[str, Any]:
    """Read what the report says about each site: counts, patients, groups, dropped rows, notes, digests.

    Raises:
        RunError: If the file is missing or damaged.
    """
    facts = read_json(out / SITES_FILE)
    for site in facts.values():
        site.pop(OLD_POSITIONS, None)
    return rename_old_site_facts(facts)


def site_notes(out: Path) -> list[str]:
    """Read the notes of all sites, each with the name of its site.

    Raises:
        RunError: If the file is missing or damaged.
    """
    return [
        f"{name}: {note}"
        for name, facts in read_facts(out).items()
        for note in (*facts.get("notes", []), *facts.get(SUBGROUP_NOTES, []))
    ]


def frozen_digests(out: Path) -> dict[str, tuple[str, str]]:
    """Read the digests of each site's dataset and split; equal digests, equal rows.

    A split of version 0.1 gets the digest that it has with the columns of this version.

    Raises:
        RunError: If the file with the facts is missing or damaged.
        SplitError: If a split of version 0.1 is missing or damaged.
    """
    digests = {}
    for name, site in read_json(out / SITES_FILE).items():
        split = site["split_digest"]
        if OLD_POSITIONS in site:
            split = frozen_split(out, name, site).digest
        digests[name] = (site["digest"], split)
    return digests
