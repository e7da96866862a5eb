"""Copies and near-copies of pictures, and the groups of rows that may not be parted.

The fingerprint is a difference hash of 16 x 16 = 256 bits (imagehash's `dhash`): each bit says whether a cell of the
shrunken picture is brighter than its left neighbour, so gain, compression and size hardly move it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

HASH_BYTES = 32


@dataclass(frozen=True, order=True)
class Pair:
    """Two rows whose pictures lie within the threshold; `distance` counts differing bits of 256."""

    first: int
    second: int
    distance: int


def perceptual_hash(picture: Image.Image) -> NDArray[np.uint8]:
    """Return the 256-bit difference hash of a picture, packed to uint8 [32]."""
    return np.packbits(imagehash.dhash(picture, hash_size=16).hash)


def pixel_digest(picture: Image.Image) -> bytes:
    """SHA-256 over size and decoded pixels, 32 bytes: equal digests, equal pictures, however their files differ."""
    return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()


def near_pairs(hashes: NDArray[np.uint8], bits: int) -> list[Pair]:
    """List all pairs of rows whose hashes differ in at most `bits` bits, identical ones included.

    Args:
        hashes: uint8 [N, 32].
        bits: 0 to 256.
    """
    return cross_pairs(hashes, hashes, bits, above_diagonal=True)


def cross_pairs(
    left: NDArray[np.uint8], right: NDArray[np.uint8], bits: int, *, above_diagonal: bool = False
) -> list[Pair]:
    """List pairs (row of `left`, row of `right`) within `bits` bits; uint8 [N, 32] and [M, 32]."""
    words = np.ascontiguousarray(right).view(np.uint64)
    found = []
    for i, word in enumerate(np.ascontiguousarray(left).view(np.uint64)):
        start = i + 1 if above_diagonal else 0
        distances = np.bitwise_count(words[start:] ^ word).sum(axis=1)
        found += [Pair(i, start + int(j), int(distances[j])) for j in np.flatnonzero(distances <= bits)]
    return found


def group_rows(patients: Sequence[str | None], pairs: Sequence[Pair]) -> list[str]:
    """Join rows of one patient and rows of one pair, transitively, and name each group.

    Args:
        patients: one id a row, None where the archive publishes none.
        pairs: near-copies as row indices.

    Returns:
        One name a row (`g0001`, `g0002`, ... in order of first appearance).
    """
    first_row: dict[str, int] = {}
    edges = [(pair.first, pair.second) for pair in pairs]
    for row, patient in enumerate(patients):
        if patient is not None:
            edges.append((first_row.setdefault(patient, row), row))
    count = len(patients)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    order: dict[int, int] = {}
    return [f"g{order.setdefault(int(c), len(order) + 1):04d}" for c in component]
