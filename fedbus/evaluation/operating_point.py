"""Sensitivity, specificity and predictive values for malignant at a threshold that was chosen beforehand."""

import numpy as np
from numpy.typing import NDArray

from fedbus.evaluation.metrics import FloatArray, ratio

FIGURES = ("sensitivity", "specificity", "ppv", "npv")


def operating_point(counts: NDArray[np.int64] | FloatArray) -> dict[str, FloatArray]:
    """Compute the figures of an operating point.

    Args:
        counts: [B, 4]: malignant above and below the threshold, others above and below it.

    Returns:
        By name of `FIGURES`: float64 [B] in 0..1, NaN where no image is concerned.
    """
    true_positive, false_negative, false_positive, true_negative = counts.T
    parts = {
        "sensitivity": (true_positive, true_positive + false_negative),
        "specificity": (true_negative, true_negative + false_positive),
        "ppv": (true_positive, true_positive + false_positive),
        "npv": (true_negative, true_negative + false_negative),
    }
    return {name: ratio(part, whole) for name, (part, whole) in parts.items()}
