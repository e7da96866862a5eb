"""What the models of a study give away about patients: the membership audit of every cell, beside its epsilon."""

import math
from typing import Any

from fedbus.evaluation.site_mean import MEAN
from fedbus.reports import membership as audit


def privacy_rows(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return one row per audited cell and arm, in the order of the study.

    Args:
        content: Content of `study.json`.

    Returns:
        {"cell", "arm", "epsilon": 0 without differential privacy, "auc": on test images, "attack" and "tpr": of the
        audit, all three as the mean of sites; each {"value", "low", "high"} or None}.
    """
    rows = []
    level = privacy_level(content)
    for name, cell in content["cells"].items():
        for arm, places in audit.audited_arms(cell).items():
            row = {
                "cell": name,
                "arm": arm,
                "epsilon": epsilon_of(content, cell),
                "auc": ((cell["arms"].get(arm) or {}).get(MEAN) or {}).get("auc"),
                "attack": places[MEAN]["auc"],
                "tpr": places[MEAN][level],
            }
            rows.append(row)
    return rows


def privacy_level(content: dict[str, Any]) -> str:
    """Choose the true-positive rate to show in all cells, see `shown_level`."""
    audited = [audit.audited_arms(cell) for cell in content["cells"].values()]
    return audit.shown_level(
        {f"{place}/{arm}": found for place, arms in enumerate(audited) for arm, found in arms.items()}
    )


def epsilon_of(content: dict[str, Any], cell: dict[str, Any]) -> float:
    """Return the setting dp-epsilon of a cell; 0 without differential privacy."""
    return float(cell["settings"].get("dp-epsilon", content["settings"].get("dp-epsilon", 0)))


def varies_epsilon(content: dict[str, Any]) -> bool:
    """Whether the audited cells of a study differ in epsilon."""
    return len({row["epsilon"] for row in privacy_rows(content)}) > 1


def epsilon_label(epsilon: float) -> str:
    """Write an epsilon: `8`, `0.5`, or `none`."""
    return f"{epsilon:g}" if epsilon else "none"


def bound(epsilon: float) -> float:
    """Return the largest AUC that any attack on a patient can have under (epsilon, 0)-differential privacy.

    The ROC curve is below min(e^epsilon x, 1 - e^-epsilon (1 - x)); the area below that is e^epsilon / (1 + e^epsilon).
    A delta of 1e-5 adds at most as much. Source: Kairouz, Oh and Viswanath, "The Composition Theorem for Differential
    Privacy", ICML 2015.
    """
    return 1 / (1 + math.exp(-epsilon)) if epsilon else 1.0
