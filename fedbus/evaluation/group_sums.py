"""Sums over a site's groups that it sends to the hub, and how the hub checks and combines them.

The bootstrap draws behind the intervals would pool exactly, but they must not be sent: their seed is known, so a hub
could solve them for the prediction on each patient. The covariance of a bootstrap over groups needs no draws: G groups
with counts x_1 .. x_G, drawn G times with replacement, have the expected sum s = sum x and the covariance
sum x x^T - s s^T / G (multinomial draws). Both terms are sums over a site's groups, computed before they leave it, and
those of independent sites add up at the hub. A site with a single group reveals that group's counts; with very few
groups they can almost be inferred.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.evaluation.metrics import FloatArray
from fedbus.seeds import derive_seed

MOST_IMAGES = 10_000_000
"""More test images than any site has; up to this number, products of counts are exact in int64."""


def group_covariance(counts: NDArray[np.int64], scatter: NDArray[np.int64], groups: int) -> FloatArray:
    """Return the covariance of counts [C] in a bootstrap over groups, from their products [C, C] summed over groups."""
    sums = counts.astype(np.float64)
    covariance: FloatArray = scatter - np.outer(sums, sums) / groups
    return covariance


def sum_of_products(groups: NDArray[np.str_], cells: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Sum x x^T over groups, int64 [size, size], where x counts the rows of a group in each of `size` cells.

    Args:
        groups: str [N], the group of each row.
        cells: int64 [N], the cell of each row.
        size: Number of cells.
    """
    names, group = np.unique(groups, return_inverse=True)
    by_group = np.zeros((len(names), size), dtype=np.int64)
    np.add.at(by_group, (group, cells), 1)
    products: NDArray[np.int64] = by_group.T @ by_group
    return products


def draw_counts(counts: NDArray[np.int64], covariance: FloatArray, draws: int, seed: int) -> FloatArray:
    """Draw counts [C] of all sites from a normal distribution: float64 [draws, C], at least 0."""
    values, vectors = np.linalg.eigh(covariance)
    spread = vectors * np.sqrt(np.clip(values, 0, None))  # rounding makes some eigenvalues slightly negative
    normal = np.random.default_rng(derive_seed(seed, "bootstrap", "all")).standard_normal((draws, len(counts)))
    # A count of 0 is 0 in every draw of groups; without this, rounding would give rows to a class that no site has.
    drawn: FloatArray = np.where(counts > 0, np.clip(counts + normal @ spread.T, 0, None), 0.0)
    return drawn


def bounds_of(figure: dict[str, float] | None) -> list[float]:
    """Return [value, low, high] of a figure; empty if it is undefined."""
    return [] if figure is None else [figure["value"], figure["low"], figure["high"]]


def read_whole_numbers(metrics: Mapping[str, Any], key: str, length: int, most: int) -> NDArray[np.int64]:
    """Read integers in 0..`most`, int64 [length]; a single number counts as a list of one.

    Raises:
        KeyError: If the key is missing.
        RunError: If they are something else.
    """
    try:
        numbers = np.atleast_1d(np.array(metrics[key]))
    except ValueError as error:  # lists of unequal length
        raise unusable(f"{key} is no list of numbers") from error
    if numbers.dtype.kind not in "iu" or numbers.shape != (length,):
        raise unusable(f"{key} is not {length} whole numbers")
    if numbers.min() < 0 or numbers.max() > most:
        raise unusable(f"{key} is out of range")
    return numbers.astype(np.int64)


def read_figure(metrics: Mapping[str, Any], key: str, least: float = 0, most: float = 1) -> dict[str, float] | None:
    """Read [value, low, high] in a range, or an empty list.

    Raises:
        KeyError: If the key is missing.
        RunError: If they are something else.
    """
    numbers = metrics[key]
    if not isinstance(numbers, list) or not all(isinstance(n, float) and least <= n <= most for n in numbers):
        raise unusable(f"{key} is no list of numbers in {least:g}..{most:g}")  # NaN fails too
    if not numbers:
        return None
    if len(numbers) != 3 or numbers[1] > numbers[2]:
        raise unusable(f"{key} is not a value with an interval")
    return dict(zip(("value", "low", "high"), numbers, strict=True))


def check_counts(
    counts: NDArray[np.int64], scatter: NDArray[np.int64], images: int, groups: int, names: tuple[str, str, str]
) -> None:
    """Check that these sums are possible, for at least one division of the images into groups.

    Args:
        counts: int64 [C].
        scatter: int64 [C, C], as `sum_of_products`.
        images: Number of images.
        groups: Number of groups.
        names: The keys of images, counts and scatter in a message.

    Raises:
        RunError: If they are not; it names the keys of images, counts and scatter.
    """
    images_key, key, scatter_key = names
    if images == 0 or images != counts.sum():
        raise unusable(f"{images_key} is {images}, {key} counts {counts.sum()}")
    if not 1 <= groups <= images:
        raise unusable(f"{images} images can't be {groups} groups")
    if (scatter != scatter.T).any():
        raise unusable(f"{scatter_key} is not symmetric")
    squares = np.diagonal(scatter)
    # Counts are integers, so x <= x^2 in each group; and a sum of products is at most the product of the sums.
    if (squares < counts).any() or (scatter > np.outer(counts, counts)).any():
        raise unusable(f"{scatter_key} does not fit {key}")
    # The sum of squared group sizes is largest if all groups but one have one image.
    largest = images - groups + 1
    if scatter.sum() > largest**2 + groups - 1:
        raise unusable(f"{scatter_key} does not fit {groups} groups")
    # G times the covariance, which has no negative eigenvalues except by rounding.
    scaled = groups * scatter.astype(np.float64) - np.outer(counts, counts)
    if np.linalg.eigvalsh(scaled).min() < -1e-9 * max(1.0, float(np.trace(scaled))):
        raise unusable(f"{scatter_key} is not possible with {groups} groups")


def unusable(why: str) -> RunError:
    """Make the error about scores that can't be those of a site."""
    return RunError(f"A site's test scores can't be used ({why}).", "Run the same version of FedBUS everywhere.")
