"""One site, ready to train on, and how it is opened from disk."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.sites.split import read_split

SITES_FILE = "sites.json"


@dataclass(frozen=True)
class Site:
    """One hospital, ready to train on.

    Attributes:
        name: the study's name for it.
        pixels: uint8 [N, H, W], memory-mapped, all pictures of the archive.
        labels: int64 [N], position in `CLASSES`.
        groups: group name of each row; empty for rows that were dropped.
        paths: path of each row inside the archive.
        splits: rows of `train`, `validation` and `test`, int64, distinct; and, where the split leaks on purpose, of
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
    part_of = np.array([row.split for row in split.rows])
    return Site(name, pixels, labels, groups, paths, {split: rows[part_of == split] for split in split.splits})


def read_facts(out: Path) -> dict[str, Any]:
    """What the report says of each site: counts, patients, groups, dropped rows, notes, digests."""
    facts: dict[str, Any] = json.loads((out / SITES_FILE).read_text(encoding="utf-8"))
    return facts


def without_places(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts of sites without where their decoded copies lie."""
    return {name: {key: fact for key, fact in site.items() if key != "pixels"} for name, site in facts.items()}
