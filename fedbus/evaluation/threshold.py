"""Choose the threshold for malignant on validation images, from binned counts, by a rule that was set beforehand."""

import math

import numpy as np

from fedbus.errors import SettingsError
from fedbus.evaluation.binned_counts import EDGES, BinnedCounts
from fedbus.settings.threshold_rule import SENSITIVITY, SPECIFICITY, ThresholdRule, parse_rule

FEWEST = 10
"""Fewer images of a side determine its share to no better than about 30 points (95 % interval)."""


def choose_threshold(counts: BinnedCounts, rule: str) -> float:
    """Choose the threshold that a rule asks for.

    Args:
        counts: Validation images by calibrated probability of malignant.
        rule: `sensitivity=S`: the highest threshold with at least this sensitivity. `specificity=S`: the lowest one
            with at least this specificity. `youden`: the one with the largest sum of both, the lowest if several have.

    Returns:
        A whole percent, at least 0.01: an image is malignant by this rule if its probability is not below it.

    Raises:
        SettingsError: If the images are too few for the rule, see `least_images`, or no threshold reaches its target.
        ValueError: If the rule is none.
    """
    parsed, (malignant, others) = parse_rule(rule), counts.above()
    for name, found in (("malignant", malignant[0]), ("other", others[0])):
        least = least_images(parsed, name)
        if found < least:
            raise SettingsError(
                f"threshold = {rule}: {found} {name} validation images are too few to choose a threshold; "
                f"it needs {least}.",
                "Add images, increase validation-fraction, or choose a rule with a lower target.",
            )
    sensitivity, specificity = malignant / malignant[0], 1 - others / others[0]
    reached = {SENSITIVITY: sensitivity >= parsed.target, SPECIFICITY: specificity >= parsed.target}.get(parsed.name)
    if reached is None:
        return float(EDGES[1 + int(np.argmax((sensitivity + specificity)[1:]))])
    # At 0 every image is above the threshold, which is no test; sensitivity falls and specificity rises with it.
    chosen = np.flatnonzero(reached[1:])
    if not len(chosen):
        raise SettingsError(
            f"threshold = {rule}: no threshold from {EDGES[1]:.2f} to {EDGES[-1]:.2f} reaches it on validation images.",
            "Choose a rule with a lower target.",
        )
    return float(EDGES[1 + (chosen[-1] if parsed.name == SENSITIVITY else chosen[0])])


def least_images(rule: ThresholdRule, side: str) -> int:
    """Return how many validation images of a side (`malignant` or `other`) a rule needs.

    With fewer than 1 / (1 - target) images, a single error is already too many: the threshold would be the score of one
    image, the lowest or the highest.
    """
    concerned = {SENSITIVITY: "malignant", SPECIFICITY: "other"}.get(rule.name)
    return max(FEWEST, math.ceil(round(1 / (1 - rule.target), 6))) if side == concerned else FEWEST
