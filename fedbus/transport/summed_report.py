"""What the sites add up in an evaluation under secure aggregation: scores, and what the hub calibrates with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedbus.evaluation.binned_counts import BINS as BIN_COUNT
from fedbus.evaluation.binned_counts import BinnedCounts
from fedbus.evaluation.site_calibration import MALIGNANT_BINS, OTHER_BINS
from fedbus.evaluation.temperature import GRID
from fedbus.evaluation.totals import NUMBERS_OF_TEST, numbers_of_test
from fedbus.secure_aggregation.numbers import NumberFormat
from fedbus.transport.messages import BINS, LIKELIHOODS, Instruction
from fedbus.transport.read_values import LIKELIHOOD_SUMS
from fedbus.transport.report import Report
from fedbus.transport.summed_score import LOSS_BITS, SCORE, impossible_sum, numbers_of_score
from fedbus.transport.summed_update import SumFormat

TEST = "test"

PURPOSES = {"": "validation", LIKELIHOODS: "likelihoods", BINS: "bins"}
"""The purposes of a session on validation rows, by what the instruction collects."""

_COLLECTED = {
    "validation": (),
    "likelihoods": (NumberFormat(LIKELIHOOD_SUMS, len(GRID), LOSS_BITS),),
    "bins": (NumberFormat(MALIGNANT_BINS, BIN_COUNT, 0), NumberFormat(OTHER_BINS, BIN_COUNT, 0)),
}


def purpose_of(instruction: Instruction) -> str:
    """Return the purpose of a session that evaluates a model, as its terms name it."""
    return TEST if instruction.split == "test" else PURPOSES[instruction.collect]


def evaluation_format(instruction: Instruction, *, deployed: bool) -> SumFormat:
    """Return what an evaluation sums.

    Args:
        instruction: What the sites are told to score.
        deployed: Whether the sites report their test; in a simulation the hub's process has the predictions.
    """
    purpose = purpose_of(instruction)
    if purpose == TEST:
        return SumFormat({}, (*SCORE, *((NumberFormat(TEST, NUMBERS_OF_TEST, 0),) if deployed else ())))
    return SumFormat({}, (*SCORE, *_COLLECTED[purpose]))


def numbers_of_report(report: Report) -> dict[str, ArrayLike]:
    """Return what a site adds in an evaluation, from the report that it would send otherwise.

    Raises:
        RunError: If the site has more images than can be added.
    """
    found = numbers_of_score(report.score)
    if report.likelihoods is not None:
        found[LIKELIHOOD_SUMS] = report.likelihoods
    if report.bins:
        found |= {MALIGNANT_BINS: report.bins.malignant, OTHER_BINS: report.bins.others}
    if report.test and report.calibrated:
        found[TEST] = numbers_of_test(report.test, report.calibrated)
    return found


def read_bins(total: Mapping[str, NDArray[Any]], rows: int) -> BinnedCounts:
    """Read the sum of the counts by calibrated probability.

    Args:
        total: The decoded sums.
        rows: How many images the sites have registered.

    Raises:
        RunError: If they count another number of images.
    """
    sides = [total[MALIGNANT_BINS], total[OTHER_BINS]]
    if min(side.min() for side in sides) < 0 or int(np.sum(sides)) != rows:
        raise impossible_sum(f"The sum of the sites' bins does not count the {rows} registered images")
    return BinnedCounts(malignant=tuple(sides[0].tolist()), others=tuple(sides[1].tolist()))
