"""Fingerprints of the images and patients that a model was trained or chosen on, and how to recognise them again.

Ids of patients are compared only within one published dataset, where equal ids name the same patient; equal ids of two
hospitals say nothing. They are stored as digests, and only for published datasets.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from fedbus.datasets.registry import find_reader
from fedbus.models.state import State
from fedbus.sites.pixel_cache import read_hashes
from fedbus.sites.site import Site, frozen_split, read_facts

HASHES, PATIENTS = "hashes", "patients"
"""Tensors of the part `seen`, both uint8 [N, 32]."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What a model was trained or chosen on.

    Attributes:
        hashes: uint8 [N, 32], difference hashes of the images.
        patients: `patient_digest` of the patients of published datasets.
    """

    hashes: NDArray[np.uint8]
    patients: frozenset[bytes]

    def to_tensors(self) -> State:
        """Return the tensors of the part `seen`, sorted, so that their order tells nothing."""
        patients = np.frombuffer(b"".join(sorted(self.patients)), dtype=np.uint8).reshape(-1, 32)
        return {HASHES: torch.from_numpy(np.unique(self.hashes, axis=0)), PATIENTS: torch.from_numpy(patients.copy())}

    @classmethod
    def from_tensors(cls, tensors: State) -> "Seen":
        """Read the tensors of the part `seen`.

        Raises:
            KeyError: If one is missing.
            ValueError: If one has another shape.
        """
        hashes, patients = (np.asarray(tensors[name].numpy()) for name in (HASHES, PATIENTS))
        if any(each.dtype != np.uint8 or each.shape[1:] != (32,) for each in (hashes, patients)):
            raise ValueError("its fingerprints do not have 32 bytes")
        return cls(hashes, frozenset(row.tobytes() for row in patients))


def seen_at(out: Path, site: Site) -> Seen:
    """Return the fingerprints of a site's training and validation images, and of their patients.

    Args:
        out: The folder in which the site is prepared.
        site: The site.

    Raises:
        RunError: If the site's decoded images were deleted.
    """
    facts = read_facts(out)[site.name]
    rows = np.unique(np.concatenate([site.splits["train"], site.splits["validation"]]))
    known = set(rows.tolist())
    patients = [row.patient for row in frozen_split(out, site.name, facts).rows if row.row in known]
    digests = patient_digests(facts["reader"], patients)
    return Seen(read_hashes(Path(facts["pixels"]))[rows], frozenset(digest for digest in digests if digest))


def patient_digests(reader: str, patients: Iterable[str | None]) -> list[bytes | None]:
    """Return the digest of each patient of a published dataset; None for unknown patients and other datasets.

    Args:
        reader: The reader of the dataset.
        patients: Ids as the reader returns them; None or empty if unknown.
    """
    published = find_reader(reader).census is not None
    return [_digest(reader, patient) if patient and published else None for patient in patients]


def _digest(reader: str, patient: str) -> bytes:
    return hashlib.sha256(f"{reader}\n{patient}".encode()).digest()
