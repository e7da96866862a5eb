"""Temperature, calibration and threshold as tables in Markdown."""

from typing import Any

from fedbus.cards.markdown import code, prose, table
from fedbus.cards.run import FinishedRun
from fedbus.reports import wording
from fedbus.reports.calibration import NAMES, calibration_rows, describe_rule, missing_thresholds

FIGURES = ("ece", "brier", "slope", "intercept")
"""Figures before and after calibration."""

POINT = ("sensitivity", "specificity", "ppv", "npv")
"""Figures at the threshold for malignant."""


def calibration_tables(run: FinishedRun) -> list[str]:
    """Write calibration before and after, and the figures at the threshold for malignant."""
    rows = calibration_rows(run.results)
    if not rows:
        return ["The probabilities are not calibrated, and no threshold was chosen."]
    places = [(row, place, found) for row in rows for place, found in row["places"].items()]
    before_after = [
        [f"{_name(row, place)}, {when}", *_cells(found[when], FIGURES), row["temperature"] if when == "after" else ""]
        for row, place, found in places
        for when in ("before", "after")
    ]
    points = [
        [_name(row, place), row["threshold"], *_cells(found["operating_point"], POINT)]
        for row, place, found in places
        if found["operating_point"]
    ]
    rule, missing = run.results["calibration"]["rule"], missing_thresholds(run.results["calibration"])
    return [
        "The temperature divides the logits; it was fitted to validation images. The other sections show the models "
        "before it. Brier score: of three classes, 0 to 2. Slope and intercept: malignant against the rest.",
        "",
        *table(["Arm, tested on", *(NAMES[key] for key in FIGURES), "temperature"], before_after),
        "",
        f"Threshold for malignant by the rule {code(rule)}: {prose(describe_rule(rule))}, on validation images. Its "
        "figures on test images, with calibrated probabilities; predictive values hold for the share of malignant "
        "images there:",
        "",
        *(
            table(["Arm, tested on", "threshold", *(NAMES[key] for key in POINT)], points)
            if points
            else ["No arm has one."]
        ),
        *(["", *(f"- {prose(sentence)}" for sentence in missing)] if missing else []),
    ]


def _name(row: dict[str, Any], place: str) -> str:
    return f"{row['label']}, {wording.site_label(place)}"


def _cells(figures: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [wording.with_interval(figures.get(name)) for name in names]
