"""A site that took no part in a run: all images that no model of the run can have trained on are test images.

Datasets overlap. A group of the new site (a patient, or near-duplicates taken together) is left out whole if one of its
images is a near-duplicate of an image of the run. So is a group of a patient that the run has: ids of one published
dataset name the same patient, whereas equal ids of two hospitals say nothing.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedbus.classes import CLASSES
from fedbus.datasets.registry import find_reader
from fedbus.errors import RunError, SettingsError
from fedbus.settings.schema import Settings, SiteSource
from fedbus.sites.groups import cross_pairs
from fedbus.sites.pixel_cache import read_hashes
from fedbus.sites.prepare import LoadedDataset, load_dataset
from fedbus.sites.site import SITES_FILE, Site, frozen_split
from fedbus.system.files import read_json
from fedbus.system.progress import Advance


@dataclass(frozen=True)
class UnseenSite:
    """A site that took no part in a run.

    Attributes:
        site: The site; its only split is `test`.
        reader: The reader of its dataset.
        images: Images in the dataset.
        patients: Patients among the tested images; None if the dataset names none.
        conflicting: Images left out because identical ones have other labels.
        in_run: By site of the run, images left out because the run has near-duplicates or other images of the patient.
    """

    site: Site
    reader: str
    images: int
    patients: int | None
    conflicting: int
    in_run: dict[str, int]


def prepare_unseen_site(
    name: str,
    source: SiteSource,
    run: Path,
    settings: Settings,
    progress: Callable[[str, int], Advance] | None = None,
) -> UnseenSite:
    """Read, decode and group a dataset, and leave out what the sites of a run have too.

    Args:
        name: Name of the new site.
        source: Its dataset.
        run: The run folder; nothing is written to it.
        settings: Settings of the run: image size, cache, and what counts as a near-duplicate.
        progress: Function that makes an `Advance` from a site's name and its number of images.

    Raises:
        SettingsError: If the run has a site of this name, or there is no such reader.
        ArchiveError, ImageError: If the dataset can't be used.
        RunError: If fewer than two classes are left, or the run folder or its cache is damaged.
        SplitError: If a split of the run is damaged.
    """
    if name in read_json(run / SITES_FILE):
        raise SettingsError(
            f"{run} already has a site called {name}.",
            "Name a dataset that took no part in the run; --site NAME=READER:FOLDER gives it another name.",
        )
    dataset = load_dataset(name, source, settings, progress)
    rows, grouped = dataset.manifest.rows, dataset.grouped
    group_in_run = {grouped.groups[row]: site for row, site in _find_seen(dataset, source, run, settings).items()}
    in_run = {row: group_in_run[grouped.groups[row]] for row in grouped.kept if grouped.groups[row] in group_in_run}
    tested = np.array([row for row in grouped.kept if row not in in_run], dtype=np.int64)
    if len({rows[row].label for row in tested}) < 2:
        raise RunError(
            f"{name}: {len(tested)} of {len(rows)} images are left, of fewer than two classes; {len(in_run)} are "
            f"near-duplicates of images of {run}, or of the same patients.",
            "Name a dataset that took no part in the run.",
        )
    labels = np.full(len(rows), -1, dtype=np.int64)
    labels[tested] = [CLASSES.index(rows[row].label) for row in tested]
    site = Site(
        name=name,
        pixels=dataset.pixels.images,
        labels=labels,
        groups=np.where(labels >= 0, np.array(grouped.groups), ""),
        paths=np.where(labels >= 0, np.array([row.path for row in rows]), ""),
        splits={"test": tested},
    )
    patients = {rows[row].patient for row in tested} - {None}
    counts = dict(Counter(in_run.values()))
    return UnseenSite(site, source.reader, len(rows), len(patients) or None, len(grouped.dropped), counts)


def _find_seen(dataset: LoadedDataset, source: SiteSource, run: Path, settings: Settings) -> dict[int, str]:
    """Find the rows that a run has too, with the first of its sites that has them."""
    published, rows = find_reader(source.reader).census is not None, dataset.manifest.rows
    seen: dict[int, str] = {}
    for name, facts in read_json(run / SITES_FILE).items():
        split = frozen_split(run, name, facts)
        used = sorted({row.row for row in split.rows})
        hashes = read_hashes(Path(facts["pixels"]))[used]
        found = {pair.second for pair in cross_pairs(hashes, dataset.pixels.hashes, settings.near_bits)}
        if published and facts["reader"] == source.reader:
            patients = {row.patient for row in split.rows if row.patient}
            found |= {index for index, row in enumerate(rows) if row.patient in patients}
        seen |= {row: name for row in sorted(found) if row not in seen}
    return seen
