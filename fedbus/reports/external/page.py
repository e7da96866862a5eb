"""The report of an external validation: one HTML file that opens anywhere, offline."""

from pathlib import Path
from typing import Any

from markupsafe import Markup

from fedbus.reports.calibration import NAMES, calibration_rows, describe_rule
from fedbus.reports.external import summary
from fedbus.reports.external.tables import COMPARED, METRICS
from fedbus.reports.templates import render
from fedbus.system.files import write_text


def write_page(results: dict[str, Any], path: Path) -> None:
    """Write the page, complete or not at all; it contains no image of the dataset and loads nothing from elsewhere.

    Args:
        results: The content of `evaluation.json`.
        path: The HTML file.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    ((name, facts),) = results["sites"].items()
    calibration = calibration_rows(results)
    text = render(
        "external/page.html",
        results=results,
        name=name,
        dataset=facts,
        metrics=METRICS,
        compared=COMPARED,
        findings=summary.findings(results),
        cautions=summary.cautions(results),
        na_reason=summary.na_reason,
        arrays_note=summary.arrays_note,
        differences=_by_reference(results),
        calibration=calibration,
        calibration_names=NAMES,
        local_calibration=False,
        rule_in_words=describe_rule(results["calibration"]["rule"]) if calibration else "",
        figures=_figures(results),
    )
    write_text(path, text)


def _by_reference(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The differences of the first model by the other model and metric."""
    found: dict[str, dict[str, Any]] = {}
    for row in results["differences"]:
        found.setdefault(row["reference"], {})[row["metric"]] = row
    return found


def _figures(results: dict[str, Any]) -> dict[str, Markup]:
    """Draw every figure; their text is escaped by the SVG writer."""
    # These load matplotlib, which only a report needs.
    from fedbus.reports.comparison import calibration, figures, heatmaps

    drawn = {
        "forest": figures.forest_plot(results, ["all"]),
        "differences": figures.differences_plot(results),
        "confusion": heatmaps.confusion_matrices(results),
        "reliability": calibration.reliability_diagram(results),
        "decision": calibration.decision_curves(results),
    }
    return {name: Markup(text) for name, text in drawn.items()}
