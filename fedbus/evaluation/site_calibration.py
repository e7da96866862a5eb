"""What sites report to the hub about calibration, and its combination over sites: aggregates only, no rows.

After training, the hub asks for the log-likelihood of validation rows at fixed temperatures, then for their counts by
calibrated probability, and finally for the test rows, each time as sums over all rows of a site.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedbus.evaluation.binned_counts import BINS, EDGES, MALIGNANT, BinnedCounts, add_counts, count_bins
from fedbus.evaluation.calibrated import FIGURES, count_point, measure_calibration
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.group_sums import (
    MOST_IMAGES,
    bounds_of,
    check_counts,
    draw_counts,
    group_covariance,
    read_figure,
    read_whole_numbers,
    sum_of_products,
    unusable,
)
from fedbus.evaluation.measured import summarise
from fedbus.evaluation.metrics import ECE_BINS, FloatArray
from fedbus.evaluation.net_benefit import net_benefit, net_benefit_of_all
from fedbus.evaluation.operating_point import FIGURES as POINT_FIGURES
from fedbus.evaluation.operating_point import operating_point
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.reliability import Reliability, reliability
from fedbus.evaluation.site_scores import GROUPS, IMAGES

MALIGNANT_BINS, OTHER_BINS = "malignant-bins", "other-bins"
TEST_MALIGNANT_BINS, TEST_OTHER_BINS = f"test-{MALIGNANT_BINS}", f"test-{OTHER_BINS}"
CELLS, SCATTER = "test-point-cells", "test-point-scatter"
WHEN = ("before", "after")
RELIABILITY = ("count", "correct", "confidence")

ROUNDING = 0.00501
"""How much a mean changes at most when confidences are rounded to whole percents."""

LIMITS = {"ece": (0.0, 1.0), "brier": (0.0, 2.0), "slope": (-1e4, 1e4), "intercept": (-1e4, 1e4)}
"""The range of each figure, and of its interval."""


@dataclass(frozen=True, eq=False)
class SiteCalibration:
    """The calibration of one trained model (one seed) on a site's test rows.

    Attributes:
        measured: As `fedbus.evaluation.calibrated.measure_calibration` returns it for the site, but for the sums of
            confidence, which are those of whole percents.
        counts: The rows by calibrated probability of malignant.
        cells: int64 [4], the cells of the operating point; zeros without a threshold.
        scatter: int64 [4, 4], products of the cells, summed over groups.
        groups: How many groups the rows belong to.
    """

    measured: dict[str, Any]
    counts: BinnedCounts
    cells: NDArray[np.int64]
    scatter: NDArray[np.int64]
    groups: int

    def to_metrics(self) -> dict[str, Any]:
        """Flatten to a record of lists of numbers; a figure that is undefined is an empty list."""
        figures = {f"test-{name}-{when}": bounds_of(self.measured[when][name]) for when in WHEN for name in FIGURES}
        bins = {
            f"test-reliability-{name}-{when}": self.measured[when]["reliability"][name]
            for when in WHEN
            for name in RELIABILITY
        }
        point = self.measured["operating_point"] or dict.fromkeys(POINT_FIGURES)
        return {
            **figures,
            **bins,
            **{f"test-point-{name}": bounds_of(point[name]) for name in POINT_FIGURES},
            CELLS: self.cells.tolist(),
            SCATTER: self.scatter.ravel().tolist(),
            TEST_MALIGNANT_BINS: list(self.counts.malignant),
            TEST_OTHER_BINS: list(self.counts.others),
        }

    @classmethod
    def from_metrics(cls, metrics: Mapping[str, Any]) -> Self:
        """Read and check a record of `to_metrics` that a site sent with the record of its `SiteScores`.

        Raises:
            RunError: If a key is missing, a number is out of range, or numbers contradict each other.
        """
        try:
            counts = read_bins(metrics, TEST_MALIGNANT_BINS, TEST_OTHER_BINS)
            cells = read_whole_numbers(metrics, CELLS, 4, MOST_IMAGES)
            scatter = read_whole_numbers(metrics, SCATTER, 16, MOST_IMAGES**2).reshape(4, 4)
            images, groups = (int(read_whole_numbers(metrics, key, 1, MOST_IMAGES)[0]) for key in (IMAGES, GROUPS))
            point = {name: read_figure(metrics, f"test-point-{name}") for name in POINT_FIGURES}
            parts = {when: _read_figures(metrics, when, images) for when in WHEN}
        except KeyError as error:
            raise unusable(f"{error} is missing") from error
        if counts.rows != images:
            raise unusable(f"{IMAGES} is {images}, its bins count {counts.rows}")
        if cells.any():
            check_counts(cells, scatter, images, groups, (IMAGES, CELLS, SCATTER))
            if (cells[0] + cells[1], cells[2] + cells[3]) != (sum(counts.malignant), sum(counts.others)):
                raise unusable(f"{CELLS} does not fit its bins")
            _check_point(point, cells)
        measured = {
            **parts,
            "operating_point": {**point, "cells": cells.tolist()} if cells.any() else None,
            "decision_curve": {"model": net_benefit(counts).tolist(), "all": net_benefit_of_all(counts).tolist()},
            "images": images,
        }
        return cls(measured, counts, cells, scatter, groups)

    def check(self, calibration: Calibration) -> None:
        """Check that the cells are those of the threshold that the site was sent.

        Raises:
            RunError: If they are not.
        """
        if not (self.cells == cells_at(self.counts, calibration.threshold)).all():
            raise unusable(f"{CELLS} is not that of the threshold")


def measure_site_calibration(
    predictions: Predictions, calibration: Calibration, draws: int, seed: int
) -> SiteCalibration:
    """Measure the calibration of one model on the test rows of one site.

    Args:
        predictions: Predictions on rows of that site only, before calibration.
        calibration: Temperature and threshold of the federation.
        draws: Bootstrap draws, at least 1.
        seed: Seed of the draws.
    """
    calibrated = calibration.apply(predictions.probabilities)
    counts = count_bins(predictions.labels, calibrated[:, MALIGNANT])
    scatter = np.zeros((4, 4), dtype=np.int64)
    if calibration.threshold is not None:
        cells = count_point(predictions.labels, calibrated, calibration.threshold).argmax(axis=1)
        scatter = sum_of_products(predictions.groups, cells, 4)
    measured = measure_calibration([(predictions, calibration)], draws, seed)
    for when, probabilities in zip(WHEN, (predictions.probabilities, calibrated), strict=True):
        measured[when]["reliability"] = reliability(predictions.labels, probabilities, percents=True).to_dict()
    groups = len(np.unique(predictions.groups))
    return SiteCalibration(measured, counts, cells_at(counts, calibration.threshold), scatter, groups)


def cells_at(counts: BinnedCounts, threshold: float | None) -> NDArray[np.int64]:
    """Count malignant above and below a threshold, others above and below it: int64 [4], zeros without a threshold."""
    if threshold is None:
        return np.zeros(4, dtype=np.int64)
    edge = int(np.searchsorted(EDGES, threshold))
    malignant, others = (side[edge] for side in counts.above())
    return np.array([malignant, sum(counts.malignant) - malignant, others, sum(counts.others) - others])


def pool_calibration(sites: Mapping[str, SiteCalibration], draws: int, seed: int) -> dict[str, Any]:
    """Combine sites as `measure_calibration` describes all their rows together.

    Brier scores and the operating point are those of all rows, calibration errors up to rounding to whole percents.
    Only the operating point has intervals; they come from summed covariances as in `site_scores.pool_sites`. Slope and
    intercept need single images and are None.

    Args:
        sites: By site, at least one.
        draws: Number of draws, at least 1.
        seed: Seed of the draws.
    """
    found = list(sites.values())
    images = [each.measured["images"] for each in found]
    parts = {when: [each.measured[when] for each in found] for when in WHEN}
    bins = {when: _add_bins([each["reliability"] for each in parts[when]]) for when in WHEN}
    briers = {
        when: float(np.average([each["brier"]["value"] for each in parts[when]], weights=images)) for when in WHEN
    }
    cells = np.sum([each.cells for each in found], axis=0)
    covariance = np.sum([group_covariance(each.cells, each.scatter, each.groups) for each in found], axis=0)
    return calibrate_sums(add_counts(each.counts for each in found), bins, briers, cells, covariance, draws, seed)


def calibrate_sums(
    counts: BinnedCounts,
    bins: Mapping[str, Reliability],
    briers: Mapping[str, float],
    cells: NDArray[np.int64],
    covariance: FloatArray,
    draws: int,
    seed: int,
) -> dict[str, Any]:
    """Describe the calibration on the rows of several sites, as `pool_calibration`, from sums over them.

    Args:
        counts: The rows by calibrated probability.
        bins: Before and after calibration, the rows by confidence.
        briers: Before and after calibration, the mean Brier score.
        cells: int64 [4], the cells of the operating point; zeros without a threshold.
        covariance: float64 [4, 4], the sites' covariances of the cells, summed.
        draws: Number of draws, at least 1.
        seed: Seed of the draws.
    """
    return {
        **{
            when: {
                "ece": {"value": bins[when].ece},
                "brier": {"value": briers[when]},
                "slope": None,
                "intercept": None,
                "reliability": bins[when].to_dict(),
            }
            for when in WHEN
        },
        "operating_point": _pool_point(cells, covariance, draws, seed),
        "decision_curve": {"model": net_benefit(counts).tolist(), "all": net_benefit_of_all(counts).tolist()},
        "images": counts.rows,
    }


def _add_bins(parts: Sequence[Mapping[str, list[float]]]) -> Reliability:
    found = [Reliability(*(np.array(bins[name]) for name in RELIABILITY)) for bins in parts]
    return sum(found[1:], found[0])


def _pool_point(cells: NDArray[np.int64], covariance: FloatArray, draws: int, seed: int) -> dict[str, Any] | None:
    if not cells.any():
        return None
    points, sampled = operating_point(cells[None]), operating_point(draw_counts(cells, covariance, draws, seed))
    return {**{name: summarise(points[name], sampled[name]) for name in POINT_FIGURES}, "cells": cells.tolist()}


def read_bins(metrics: Mapping[str, Any], malignant: str, others: str) -> BinnedCounts:
    """Read counts by bin that a site sent.

    Raises:
        KeyError: If a key is missing.
        RunError: If they are not counts.
    """
    sides = [read_whole_numbers(metrics, key, BINS, MOST_IMAGES).tolist() for key in (malignant, others)]
    return BinnedCounts(malignant=tuple(sides[0]), others=tuple(sides[1]))


def _read_figures(metrics: Mapping[str, Any], when: str, images: int) -> dict[str, Any]:
    figures = {name: read_figure(metrics, f"test-{name}-{when}", *LIMITS[name]) for name in FIGURES}
    if figures["ece"] is None or figures["brier"] is None:
        raise unusable(f"test-ece-{when} or test-brier-{when} is undefined")
    count, correct = (
        read_whole_numbers(metrics, f"test-reliability-{name}-{when}", ECE_BINS, MOST_IMAGES)
        for name in RELIABILITY[:2]
    )
    key = f"test-reliability-confidence-{when}"
    confidence = np.array(metrics[key], dtype=np.float64) if isinstance(metrics[key], list) else np.array(np.nan)
    # A bin's mean confidence is between its edges, but for rounding to whole percents.
    edges = np.arange(ECE_BINS + 1) / ECE_BINS
    possible = confidence.shape == (ECE_BINS,) and (
        (confidence >= count * (edges[:-1] - ROUNDING)) & (confidence <= count * (edges[1:] + ROUNDING))
    )
    if not np.all(possible) or (correct > count).any() or count.sum() != images:
        raise unusable(f"test-reliability-{when} is not possible")
    bins = Reliability(count, correct, confidence)
    if abs(bins.ece - figures["ece"]["value"]) > ROUNDING:
        raise unusable(f"test-ece-{when} is not that of its bins")
    return {**figures, "reliability": bins.to_dict()}


def _check_point(point: Mapping[str, dict[str, float] | None], cells: NDArray[np.int64]) -> None:
    for name, value in operating_point(cells[None]).items():
        figure = point[name]
        if figure is not None and not abs(figure["value"] - value[0]) <= 1e-9:
            raise unusable(f"test-point-{name} is not that of its cells")
