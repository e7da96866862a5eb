"""What sites add up about the test of a model where the hub learns only sums (secure aggregation).

Every entry is an integer, a figure times a fixed scale, so that sums are exact in any order and modulo 2^64. The sums
give the figures on all rows as `site_scores.pool_sites` and `site_calibration.pool_calibration` compute them from each
site's own record. Two entries differ from that record: a site adds its covariances, because the term s s^T / G of a
single site does not follow from sums; and, for the mean over sites, its figures with the squared widths of their
intervals. The limits of a mean of independent figures follow from those sums: Zou and Donner, "Construction of
confidence limits about effect measures: a general approach", Statistics in Medicine 27(10), 2008.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.binned_counts import BINS, BinnedCounts
from fedbus.evaluation.group_sums import group_covariance
from fedbus.evaluation.measured import COMPARED
from fedbus.evaluation.metrics import ECE_BINS, FloatArray
from fedbus.evaluation.reliability import Reliability
from fedbus.evaluation.site_calibration import (
    CELLS,
    RELIABILITY,
    TEST_MALIGNANT_BINS,
    TEST_OTHER_BINS,
    WHEN,
    SiteCalibration,
    calibrate_sums,
)
from fedbus.evaluation.site_scores import CONFUSION, GROUPS, IMAGES, SiteScores, score_sums

COVARIANCE, POINT_COVARIANCE = "test-covariance", "test-point-covariance"

MOST = 2**52
"""No entry of a site is larger, so that those of 2000 sites add up without overflow."""

SQUARES = 2**16
"""Scale of covariances: a rounding error is small against the counts of a single image."""

SHARES = 2**32
"""Scale of figures in 0..1 and of squares of them."""

BRIERS = 2**24
"""Scale of sums of Brier scores over images."""


@dataclass(frozen=True)
class Entry:
    """One entry: its key, its number of values, and how many steps are 1."""

    key: str
    size: int
    scale: int = 1


ENTRIES = (
    Entry(CONFUSION, len(CLASSES) ** 2),
    Entry(COVARIANCE, len(CLASSES) ** 4, SQUARES),
    Entry(IMAGES, 1),
    Entry(GROUPS, 1),
    *(Entry(f"test-mean-{name}", 4, SHARES) for name in COMPARED),
    Entry(TEST_MALIGNANT_BINS, BINS),
    Entry(TEST_OTHER_BINS, BINS),
    *(
        # A site rounds confidences to whole percents.
        Entry(f"test-reliability-{name}-{when}", ECE_BINS, 100 if name == "confidence" else 1)
        for name in RELIABILITY
        for when in WHEN
    ),
    *(Entry(f"test-brier-sum-{when}", 1, BRIERS) for when in WHEN),
    Entry(CELLS, 4),
    Entry(POINT_COVARIANCE, 16, SQUARES),
)
"""In the order of the numbers. `test-mean-...`: the figure, the squares of its lower and upper width, and 1 if it is
defined; `test-brier-sum-...`: the Brier score, summed over images."""

NUMBERS_OF_TEST = sum(entry.size for entry in ENTRIES)
"""How many numbers a site adds."""

Totals = Mapping[str, Any]
"""By key of `ENTRIES` its sum over sites, as numbers with JSON types; and "sites", their names."""


def numbers_of_test(scores: SiteScores, calibrated: SiteCalibration) -> NDArray[np.int64]:
    """Return what a site adds about the test of a model: int64 [NUMBERS_OF_TEST].

    Raises:
        RunError: If the site has more test images than can be added.
    """
    found = _values_of(scores) | _calibration_values(calibrated)
    scaled = np.concatenate([np.ravel(found[entry.key]) * float(entry.scale) for entry in ENTRIES])
    if not np.abs(scaled).max() < MOST:
        raise RunError("This site has more test images than can be added up securely.", "Choose more folds.")
    numbers: NDArray[np.int64] = np.rint(scaled).astype(np.int64)
    return numbers


def read_totals(numbers: NDArray[np.int64], sites: Sequence[str]) -> dict[str, Any]:
    """Read the sum of the numbers of several sites.

    Args:
        numbers: int64 [NUMBERS_OF_TEST], the sum.
        sites: The names of the sites whose numbers were added.

    Returns:
        As `Totals`.

    Raises:
        RunError: If they contradict each other. Which site's are wrong can't be known.
    """
    if numbers.shape != (NUMBERS_OF_TEST,):
        raise _unusable(f"{numbers.size} numbers, not {NUMBERS_OF_TEST}")
    ends = np.cumsum([entry.size for entry in ENTRIES])
    totals: dict[str, Any] = {"sites": list(sites)}
    for entry, part in zip(ENTRIES, np.split(numbers, ends[:-1]), strict=True):
        totals[entry.key] = (part if entry.scale == 1 else part / entry.scale).tolist()
    _check(totals)
    return totals


def score_totals(totals: Totals, draws: int, seed: int) -> dict[str, dict[str, Any]]:
    """Compute the metrics of a model on all rows of the sites, and as the mean of the sites' own figures.

    Args:
        totals: What `read_totals` returned.
        draws: Number of draws behind the intervals on all rows.
        seed: Seed of the draws.

    Returns:
        "all", as `site_scores.pool_sites`; "mean", by metric of `COMPARED` its value and interval, or None if it is
        undefined at a site, with the numbers of images and groups.
    """
    size = {"images": totals[IMAGES][0], "groups": totals[GROUPS][0]}
    counts = np.array(totals[CONFUSION], dtype=np.int64)
    covariance = np.array(totals[COVARIANCE]).reshape(len(counts), -1)
    mean = {name: _mean_figure(totals[f"test-mean-{name}"], len(totals["sites"])) for name in COMPARED}
    return {"all": score_sums(counts, covariance, draws, seed) | size, "mean": mean | size}


def calibrate_totals(totals: Totals, draws: int, seed: int) -> dict[str, Any]:
    """Describe the calibration on all rows as `site_calibration.pool_calibration`; arguments as `score_totals`."""
    counts = BinnedCounts(malignant=tuple(totals[TEST_MALIGNANT_BINS]), others=tuple(totals[TEST_OTHER_BINS]))
    bins = {
        when: Reliability(*(np.array(totals[f"test-reliability-{name}-{when}"]) for name in RELIABILITY))
        for when in WHEN
    }
    briers = {when: totals[f"test-brier-sum-{when}"][0] / counts.rows for when in WHEN}
    covariance = np.array(totals[POINT_COVARIANCE]).reshape(4, 4)
    return calibrate_sums(counts, bins, briers, np.array(totals[CELLS], dtype=np.int64), covariance, draws, seed)


def _values_of(scores: SiteScores) -> dict[str, Any]:
    return {
        CONFUSION: scores.counts,
        COVARIANCE: scores.covariance,
        IMAGES: scores.metrics["images"],
        GROUPS: scores.metrics["groups"],
        **{f"test-mean-{name}": _figure_and_widths(scores.metrics[name]) for name in COMPARED},
    }


def _calibration_values(calibrated: SiteCalibration) -> dict[str, Any]:
    measured, rows = calibrated.measured, calibrated.counts.rows
    return {
        TEST_MALIGNANT_BINS: calibrated.counts.malignant,
        TEST_OTHER_BINS: calibrated.counts.others,
        **{
            f"test-reliability-{name}-{when}": measured[when]["reliability"][name]
            for when in WHEN
            for name in RELIABILITY
        },
        **{f"test-brier-sum-{when}": rows * measured[when]["brier"]["value"] for when in WHEN},
        CELLS: calibrated.cells,
        POINT_COVARIANCE: group_covariance(calibrated.cells, calibrated.scatter, calibrated.groups),
    }


def _figure_and_widths(figure: dict[str, float] | None) -> FloatArray:
    if figure is None:
        return np.zeros(4)
    below, above = (max(0.0, width) for width in (figure["value"] - figure["low"], figure["high"] - figure["value"]))
    return np.array([figure["value"], below**2, above**2, 1.0])


def _mean_figure(sums: Sequence[float], sites: int) -> dict[str, float] | None:
    value, below, above, defined = sums
    if defined != sites:
        return None  # over fewer sites it would be another figure
    low, high = (value - math.sqrt(below)) / sites, (value + math.sqrt(above)) / sites
    return {"value": value / sites, "low": max(0.0, low), "high": min(1.0, high)}


def _check(totals: dict[str, Any]) -> None:
    """Check that sums are possible, as far as they show it."""
    images, groups, sites = totals[IMAGES][0], totals[GROUPS][0], len(totals["sites"])
    counted = [entry.key for entry in ENTRIES if entry.scale == 1]
    negative = [key for key in counted if min(totals[key]) < 0]
    if negative:
        raise _unusable(f"{', '.join(negative)} is negative")
    if not 0 < sites <= groups <= images or sum(totals[CONFUSION]) != images:
        raise _unusable(f"{images} test images in {groups} groups, {sum(totals[CONFUSION])} predictions")
    bins = [sum(totals[key]) for key in (TEST_MALIGNANT_BINS, TEST_OTHER_BINS)]
    cells = totals[CELLS]
    if sum(bins) != images or (any(cells) and [cells[0] + cells[1], cells[2] + cells[3]] != bins):
        raise _unusable("counts by probability do not fit the test images")
    if any(sum(totals[f"test-reliability-count-{when}"]) != images for when in WHEN):
        raise _unusable("counts by confidence do not fit the test images")
    for name in COMPARED:
        value, below, above, defined = totals[f"test-mean-{name}"]
        if min(value, below, above) < 0 or value > defined or defined > sites:
            raise _unusable(f"test-mean-{name} is out of range")


def _unusable(why: str) -> RunError:
    return RunError(
        f"The sites' sums about the test can't be used ({why}).",
        "Run the same version of FedBUS everywhere. Sums do not show which site's numbers are wrong.",
    )
