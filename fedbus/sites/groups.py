"""Near-duplicates, and the groups of rows that must not be split.

Two images are near-duplicates if their difference hashes (`fedbus.images.fingerprint`) differ in at most `near-bits` of
256 bits. Every pair is compared, so none is missed: 50 000 images take about ten seconds on one core.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy  # loads scipy.sparse on first use
from numpy.typing import NDArray

CELLS = 2**17
"""Pairs compared in one step: one megabyte per array, which stays in a processor's cache."""


@dataclass(frozen=True, order=True)
class Pair:
    """Two rows whose hashes differ in at most the threshold; `distance` counts differing bits of 256."""

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
    step = max(1, CELLS // max(1, len(right)))
    found = [np.empty((3, 0), dtype=np.int64)]
    for start in range(0, len(left), step):
        skip = start if above_diagonal else 0
        distances = np.zeros((min(step, len(left) - start), len(right) - skip), dtype=np.uint16)
        for ours, theirs in zip(lefts[:, start : start + step, None], rights[:, None, skip:], strict=True):
            distances += np.bitwise_count(ours ^ theirs)
        near = np.triu(distances <= bits, 1) if above_diagonal else distances <= bits
        first, second = np.nonzero(near)
        found.append(np.stack([first + start, second + skip, distances[first, second]]))
    return [Pair(*each) for each in zip(*np.concatenate(found, axis=1).tolist(), strict=True)]


def _words(hashes: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The hashes as uint64 [4, N]."""
    return np.ascontiguousarray(np.ascontiguousarray(hashes).view(np.uint64).T)


def identical_rows(digests: NDArray[np.uint8]) -> list[list[int]]:
    """List the rows of each image that occurs more than once, in order of first appearance.

    Args:
        digests: uint8 [N, 32], equal where images are equal in every pixel.
    """
    rows_of: dict[bytes, list[int]] = {}
    for row, digest in enumerate(digests):
        rows_of.setdefault(digest.tobytes(), []).append(row)
    return [rows for rows in rows_of.values() if len(rows) > 1]


def group_rows(patients: Sequence[str | None], pairs: Sequence[Pair]) -> list[str]:
    """Join rows of one patient and rows of one pair, transitively, and name each group.

    Args:
        patients: One id per row, None where the dataset publishes none.
        pairs: Near-duplicates as row indices.

    Returns:
        One name per row (`g0001`, `g0002`, ... in order of first appearance).
    """
    first_row: dict[str, int] = {}
    edges = [(pair.first, pair.second) for pair in pairs]
    for row, patient in enumerate(patients):
        if patient is not None:
            edges.append((first_row.setdefault(patient, row), row))
    count = len(patients)
    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = scipy.sparse.coo_array((np.ones(len(ends), dtype=np.int8), (ends[:, 0], ends[:, 1])), shape=(count, count))
    _, component = scipy.sparse.csgraph.connected_components(graph, directed=False)
    order: dict[int, int] = {}
    return [f"g{order.setdefault(int(c), len(order) + 1):04d}" for c in component]
