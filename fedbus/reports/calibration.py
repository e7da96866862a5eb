"""How reports write calibration: temperature, threshold and its rule, and why there is none."""

from collections.abc import Sequence
from typing import Any

from fedbus.reports import wording
from fedbus.settings.threshold_rule import SENSITIVITY, SPECIFICITY, parse_rule

NAMES = {
    "ece": "calibration error", "brier": "Brier score", "slope": "slope", "intercept": "intercept",
    "sensitivity": "sensitivity", "specificity": "specificity", "ppv": "PPV", "npv": "NPV",
}  # fmt: skip
"""Figures of calibration and of an operating point, with the names that readers see."""


def calibration_rows(results: dict[str, Any]) -> list[dict[str, Any]]:
    """Lay out the calibration of every arm for the page, in the order of the other tables.

    Returns:
        For each arm "arm", "label", "temperature", "threshold" (text, several seeds joined), "reason" (why there is no
        threshold), "place" (its main test set), and "places" as `fedbus.evaluation.calibrated.measure_calibration`.
    """
    found = (results.get("calibration") or {}).get("arms", {})
    return [
        {
            "arm": arm,
            "label": wording.arm_label(arm),
            "temperature": _joined(found[arm]["fitted"], "temperature"),
            "threshold": _joined(found[arm]["fitted"], "threshold"),
            "reason": next((each["reason"] for each in found[arm]["fitted"] if each["reason"]), ""),
            "place": next(iter(found[arm]["places"])),
            "places": found[arm]["places"],
        }
        for arm in wording.ordered_arms(results)
        if arm in found
    ]


def missing_thresholds(calibration: dict[str, Any] | None) -> list[str]:
    """Say why arms have no threshold: one sentence for all arms with the same reason."""
    by_reason: dict[str, list[str]] = {}
    for arm, found in (calibration or {}).get("arms", {}).items():
        for reason in dict.fromkeys(each["reason"] for each in found["fitted"] if each["reason"]):
            by_reason.setdefault(reason, []).append(wording.arm_label(arm))
    return [f"{', '.join(arms)}: no threshold. {reason}" for reason, arms in by_reason.items()]


def describe_rule(rule: str) -> str:
    """Describe a threshold's rule in words, to follow "the threshold is"."""
    parsed = parse_rule(rule)
    if parsed.name == SENSITIVITY:
        return f"the highest with a sensitivity of at least {wording.number(parsed.target)}"
    if parsed.name == SPECIFICITY:
        return f"the lowest with a specificity of at least {wording.number(parsed.target)}"
    return "the one with the largest sum of sensitivity and specificity (Youden)"


def _joined(fitted: Sequence[dict[str, Any]], key: str) -> str:
    """Write a number of every seed with two digits; `n/a` for None."""
    return ", ".join(wording.MISSING if each[key] is None else f"{each[key]:.2f}" for each in fitted)
