"""Copies and near-copies of pictures, and the groups of rows that may not be parted.

The fingerprint is a difference hash of 16 x 16 = 256 bits (imagehash's `dhash`): each bit says whether a cell of the
shrunken picture is brighter than its left neighbour, so gain, compression and size hardly move it.

Hashes that differ in at most b bits are equal in at least one of b + 1 parts, so only rows that share a part are
compared (Norouzi, Punjani and Fleet, CVPR 2012, with one part more than b in place of a search around each part): all
pairs are found, and at b = 20 one in two hundred is looked at.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fedbus.images.fingerprint import HASH_BYTES

SCATTERED = 77 * np.arange(8 * HASH_BYTES) % (8 * HASH_BYTES)
"""All bits, neighbours far apart: cells side by side agree too often for a part made of them to tell pictures apart."""

MOST_PARTS = 32
"""Of 8 bits each; with shorter ones, comparing every row with every other is no slower."""


@dataclass(frozen=True, order=True)
class Pair:
    """Two rows whose pictures lie within the threshold; `distance` counts differing bits of 256."""

    first: int
    second: int
    distance: int


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
    """List pairs (row of `left`, row of `right`) within `bits` bits, in order; uint8 [N, 32] and [M, 32].

    With `above_diagonal`, only those whose second row is the later one.
    """
    lefts, rights = _words(left), _words(right)
    left_keys, right_keys = _part_keys(left, bits), _part_keys(right, bits)
    found = [np.empty((3, 0), dtype=np.int64)]
    for part, keys in enumerate(right_keys):
        order = np.argsort(keys, kind="stable")
        for first, place in _sharing(left_keys[part], keys[order]):
            second = order[place]
            if above_diagonal:
                first, second = first[second > first], second[second > first]
            first, second, distance = _near(lefts, rights, first, second, bits)
            known = (left_keys[:part, first] == right_keys[:part, second]).any(axis=0)
            found.append(np.stack([first, second, distance])[:, ~known])
    pairs = np.concatenate(found, axis=1)
    pairs = pairs[:, np.lexsort((pairs[1], pairs[0]))]
    return [Pair(*each) for each in zip(*pairs.tolist(), strict=True)]


def _words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hashes as uint64 [4, N]."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).T)


def _part_keys(hashes: NDArray[np.uint8], bits: int) -> NDArray[np.int64]:
    """Int64 [parts, N]: rows that are equal in a part have equal keys there."""
    spread = np.unpackbits(hashes, axis=1)
    parts = np.array_split(SCATTERED, bits + 1) if bits < MOST_PARTS else [SCATTERED[:0]]
    used = [columns[:62] for columns in parts]  # as many as an int64 holds
    return np.stack([spread[:, columns] @ (1 << np.arange(len(columns))) for columns in used])


def _sharing(
    keys: NDArray[np.int64], ordered: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """All pairs (row of `keys`, place in `ordered`) with equal keys, at most one of each row at a time."""
    rows = np.argsort(keys, kind="stable")  # so that neighbours read the same memory
    places, stops = (np.searchsorted(ordered, keys[rows], side) for side in ("left", "right"))
    while len(rows):
        open_rows = places < stops
        rows, places, stops = rows[open_rows], places[open_rows], stops[open_rows]
        yield rows, places
        places = places + 1


def _near(
    lefts: NDArray[np.uint64],
    rights: NDArray[np.uint64],
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    bits: int,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Those of some pairs that lie within `bits` bits, and how far apart they lie."""
    distance = np.zeros(len(first), dtype=np.int64)
    for ours, theirs in zip(lefts, rights, strict=True):  # most pairs are too far apart in the first 64 bits alone
        distance += np.bitwise_count(ours[first] ^ theirs[second])
        near = distance <= bits
        first, second, distance = first[near], second[near], distance[near]
    return first, second, distance


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
