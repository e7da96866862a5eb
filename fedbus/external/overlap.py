"""Images of an outside dataset that a model has been trained or chosen on: they would flatter it.

An image counts as seen if it is a copy or near-duplicate of such an image, or shows a patient of a published dataset
that the model has seen. A group (a patient, near-duplicates taken together) is left out whole, and what one model has
seen is left out for all, so that all models are compared on the same rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from fedbus.errors import RunError, listed
from fedbus.external.dataset import OutsideDataset
from fedbus.external.models import GivenModel
from fedbus.model_folder.read import ModelFolder
from fedbus.model_folder.seen import patient_digests
from fedbus.sites.groups import cross_pairs


@dataclass(frozen=True)
class Overlap:
    """Which rows of a dataset models have seen.

    Attributes:
        near: By model, rows that are copies or near-duplicates of its images.
        patients: By model, further rows that show its patients.
        left_out: All rows of the groups of these rows.
        unknown: Models whose folder does not have the fingerprints of all sites, so that not everything can be found.
    """

    near: dict[str, list[int]]
    patients: dict[str, list[int]]
    left_out: frozenset[int]
    unknown: tuple[str, ...]


def find_overlap(dataset: OutsideDataset, models: Sequence[GivenModel]) -> Overlap:
    """Find the rows that models have seen.

    Raises:
        RunError: If the fingerprints of a model are damaged.
    """
    near, patients, unknown = {}, {}, []
    for model in models:
        found = [rows for folder in model.seeds if (rows := _seen_rows(dataset, folder)) is not None]
        if len(found) < len(model.seeds) or any(folder.facts.seen_in_part for folder in model.seeds):
            unknown.append(model.name)
        near[model.name] = sorted(set().union(*(rows for rows, _ in found)))
        patients[model.name] = sorted(set().union(*(rows for _, rows in found)) - set(near[model.name]))
    groups = dataset.loaded.grouped.groups
    seen = {groups[row] for rows in (*near.values(), *patients.values()) for row in rows}
    left_out = frozenset(row for row in dataset.loaded.grouped.kept if groups[row] in seen)
    return Overlap(near, patients, left_out, tuple(unknown))


def refuse_overlap(dataset: OutsideDataset, overlap: Overlap) -> None:
    """Refuse a dataset with rows that a model has seen.

    Raises:
        RunError: With their counts, some of their files, and the remedy.
    """
    if not overlap.left_out:
        return
    rows, near, further = dataset.loaded.manifest.rows, _union(overlap.near), _union(overlap.patients)
    further -= near
    counts = [f"{len(near)} are copies or near-duplicates of its images"] if near else []
    counts += [f"{len(further)} more show its patients"] if further else []
    by_model = ", ".join(
        f"{name}: {len(overlap.near[name]) + len(overlap.patients[name])}"
        for name in overlap.near
        if overlap.near[name] or overlap.patients[name]
    )
    raise RunError(
        f"{len(near | further)} of {len(rows)} images of {dataset.name} are known to a model from its training or "
        f"validation ({by_model}): {' and '.join(counts)}. For example {listed(_paths(dataset, near | further), 3)}.",
        "Use a dataset that took no part in the training, or add --leave-out-seen: it leaves out these images and "
        f"their groups, {len(overlap.left_out)} images, and reports the number.",
    )


def _seen_rows(dataset: OutsideDataset, folder: ModelFolder) -> tuple[set[int], set[int]] | None:
    """The rows that are near-duplicates of a model's images, and those of its patients; None if it has no record."""
    seen = folder.seen()
    if seen is None:
        return None
    pairs = cross_pairs(seen.hashes, dataset.loaded.pixels.hashes, folder.facts.near_bits)
    digests = patient_digests(dataset.reader, [row.patient for row in dataset.loaded.manifest.rows])
    kept = set(dataset.loaded.grouped.kept)
    patients = {row for row, digest in enumerate(digests) if digest in seen.patients}
    return {pair.second for pair in pairs} & kept, patients & kept


def _union(rows: dict[str, list[int]]) -> set[int]:
    return {row for each in rows.values() for row in each}


def _paths(dataset: OutsideDataset, rows: set[int]) -> list[str]:
    return [dataset.loaded.manifest.rows[row].path for row in sorted(rows)]
