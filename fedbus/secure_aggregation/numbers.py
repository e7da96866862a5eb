"""Counts, losses and other numbers of a report as whole numbers, so that masked sums are exact: modulo 2^64."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedbus.errors import OutOfRangeError, RunError

LARGEST = 1 << 48
"""Steps of the largest number of one site, so that the sum over `MAX_SITES` sites stays below 2^63."""

SHARE_BITS = 48
"""Binary places of a site's share in the mean, which is at most 1."""


@dataclass(frozen=True)
class NumberFormat:
    """One entry of the numbers that are summed.

    Attributes:
        key: Its name.
        size: How many numbers it has.
        bits: Its binary places: it is summed in steps of 2^-bits; 0 for whole numbers. A number of one site is at most
            2^(48 - bits) either way.
    """

    key: str
    size: int
    bits: int


def encode_numbers(values: Mapping[str, ArrayLike], formats: Sequence[NumberFormat]) -> NDArray[np.uint64]:
    """Encode the numbers of a site.

    Args:
        values: A number or an array by key; arrays of any shape.
        formats: The entries, in their order in the sum.

    Raises:
        OutOfRangeError: If a number is not finite or too large.
        RunError: If an entry is missing or has another size.
    """
    out = np.empty(sum(entry.size for entry in formats), dtype=np.uint64)
    for entry, place in _places(formats):
        numbers = np.asarray(values.get(entry.key, []), dtype=np.float64).reshape(-1)
        if numbers.size != entry.size:
            raise RunError(
                f"The report has {numbers.size} numbers {entry.key}, not {entry.size}.", "Report this as a bug."
            )
        with np.errstate(over="ignore"):  # infinity is refused below
            steps = np.rint(np.ldexp(numbers, entry.bits))
        if not (np.abs(steps) <= LARGEST).all():  # NaN fails too
            value = float(numbers[~(np.abs(steps) <= LARGEST)][0])
            raise OutOfRangeError(
                f"{entry.key} is {value:g}; at most {LARGEST / 2**entry.bits:g} fits into the secure sum.",
                "Nothing was sent. Lower the learning rate, or check this site's images.",
            )
        out[place] = steps.astype(np.int64).view(np.uint64)
    return out


def decode_numbers(total: NDArray[np.uint64], formats: Sequence[NumberFormat]) -> dict[str, NDArray[Any]]:
    """Decode sums of numbers.

    Returns:
        Arrays by key: int64 for whole numbers, otherwise float64.

    Raises:
        RunError: If there are more or fewer numbers.
    """
    if total.dtype != np.uint64 or total.shape != (sum(entry.size for entry in formats),):
        raise RunError("The secure sum has other numbers than expected.", "Run the same version of FedBUS everywhere.")
    whole = total.view(np.int64)
    return {
        entry.key: np.ldexp(whole[place].astype(np.float64), -entry.bits) if entry.bits else whole[place].copy()
        for entry, place in _places(formats)
    }


def _places(formats: Iterable[NumberFormat]) -> Iterable[tuple[NumberFormat, slice]]:
    start = 0
    for entry in formats:
        yield entry, slice(start, start + entry.size)
        start += entry.size
