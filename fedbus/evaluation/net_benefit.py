"""The decision curve: what a model is worth at each threshold at which a person would act.

Net benefit = TP / n - FP / n * t / (1 - t) at the threshold t: true positives, less false positives at the rate at
which a person who acts at t exchanges them. Vickers and Elkin, "Decision curve analysis", Medical Decision Making
26(6), 2006.
"""

from fedbus.evaluation.binned_counts import EDGES, BinnedCounts
from fedbus.evaluation.metrics import FloatArray

FIRST, LAST = 1, 30
"""Thresholds of the curve in percent; biopsies are common from 2 %, and few would wait beyond 30 %."""

THRESHOLDS: FloatArray = EDGES[FIRST : LAST + 1]


def net_benefit(counts: BinnedCounts) -> FloatArray:
    """Compute the net benefit of acting on images above each of `THRESHOLDS`: float64 [30]."""
    malignant, others = (side[FIRST : LAST + 1] for side in counts.above())
    benefit: FloatArray = (malignant - others * THRESHOLDS / (1 - THRESHOLDS)) / counts.rows
    return benefit


def net_benefit_of_all(counts: BinnedCounts) -> FloatArray:
    """Compute the net benefit of acting on every image at each of `THRESHOLDS`; acting on none has 0."""
    share = sum(counts.malignant) / counts.rows
    benefit: FloatArray = share - (1 - share) * THRESHOLDS / (1 - THRESHOLDS)
    return benefit
