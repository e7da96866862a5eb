"""The report of a comparison: one HTML file that opens anywhere, offline."""

import base64
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from fedbus.reports import membership as audit
from fedbus.reports import wording
from fedbus.reports.calibration import NAMES, calibration_rows, describe_rule
from fedbus.reports.comparison import summary
from fedbus.reports.comparison.few_sites import few_sites, shown
from fedbus.reports.comparison.tables import HEADLINE, MEAN_NOTE
from fedbus.reports.differential_privacy import epsilon_rows, is_private, privacy_sentences
from fedbus.reports.templates import render
from fedbus.system.files import write_text

if TYPE_CHECKING:
    from fedbus.reports.comparison.curves import Histories  # loads matplotlib

Samples = dict[str, dict[str, list[bytes]]]
"""By site and class, thumbnails as PNG bytes."""


Examples = dict[str, Any]
"""Test images and the maps of the arms, as `simulations.explained_examples` returns them."""


def write_report(
    results: dict[str, Any], histories: "Histories", samples: Samples, path: Path, examples: Examples | None = None
) -> None:
    """Write the report of a comparison, complete or not at all.

    The file contains everything: figures as SVG, images as base64, no script, nothing loaded from elsewhere. All text
    of the results is escaped.

    Args:
        results: Content of `results.json`.
        histories: The rounds of each arm; arms may be missing.
        samples: Thumbnails by site and class; may be empty.
        path: The HTML file.
        examples: Test images with the maps of the arms; None: none are shown.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    write_text(path, render_report(results, histories, samples, examples))


def render_report(
    results: dict[str, Any], histories: "Histories", samples: Samples, examples: Examples | None = None
) -> str:
    """Render the page; arguments as `write_report`. Equal arguments give equal text."""
    results = few_sites(results)
    calibration = calibration_rows(results)
    return render(
        "comparison/page.html",
        results=results,
        calibration=calibration,
        calibration_names=NAMES,
        local_calibration=any(wording.home(row["arm"]) for row in calibration),
        rule_in_words=describe_rule(results["calibration"]["rule"]) if calibration else "",
        headline=list(HEADLINE) if wording.note_on_auc(results) else [*HEADLINE, "ece"],
        arms_by_family=[(name, list(arms)) for name, arms in groupby(wording.ordered_arms(results), wording.family)],
        mean_note=MEAN_NOTE,
        findings=summary.findings(results),
        cautions=summary.cautions(results),
        differences=_differences(results),
        federation={arm: stretches(record["rounds"]) for arm, record in results.get("federation", {}).items()},
        figures=_figures(results, histories),
        audit=audit,
        privacy=privacy_sentences(results),
        epsilons=epsilon_rows(results, histories) if is_private(results) else [],
        samples=_data_uris(shown(samples, results)),
        examples=_with_data_uris(examples, results),
    )


def stretches(rounds: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join successive rounds with the same participants and the same refusals.

    Returns:
        {"first", "last", "participants", "refused"} per stretch, in the order of the rounds.
    """
    joined: list[dict[str, Any]] = []
    for entry in rounds:
        who = {"participants": list(entry.get("participants", [])), "refused": dict(entry.get("refused", {}))}
        if joined and all(joined[-1][key] == value for key, value in who.items()):
            joined[-1]["last"] = entry["round"]
        else:
            joined.append({"first": entry["round"], "last": entry["round"], **who})
    return joined


def _figures(results: dict[str, Any], histories: "Histories") -> dict[str, Markup]:
    """Draw every figure; their text is escaped by the SVG writer."""
    # These load matplotlib, which only a report needs.
    from fedbus.reports.comparison import calibration, curves, figures, heatmaps, membership, subgroups

    drawn = {
        "forest": figures.forest_plot(results),
        "differences": figures.differences_plot(results),
        "matrix": heatmaps.cross_site_matrix(results),
        "recall": heatmaps.recall_map(results),
        "confusion": heatmaps.confusion_matrices(results),
        "reliability": calibration.reliability_diagram(results),
        "decision": calibration.decision_curves(results),
        "membership": membership.membership_plot(results),
        "curves": curves.validation_curves(results, histories),
        "shared": curves.shared_curves(results, histories),
        "balance": curves.class_balance(results),
        **subgroups.subgroup_plots(results),
    }
    return {name: Markup(text) for name, text in drawn.items()}


def _differences(results: dict[str, Any]) -> list[tuple[str, str, list[tuple[str, dict[str, Any]]]]]:
    """Group the differences as (arm, reference, [(site, {metric: row})]), in the order of the results."""
    grouped: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in results.get("differences", []):
        by_site = grouped.setdefault((row["arm"], row["reference"]), {})
        by_site.setdefault(row["site"], {})[row["metric"]] = row
    return [(arm, reference, list(by_site.items())) for (arm, reference), by_site in grouped.items()]


def _data_uris(samples: Samples) -> dict[str, dict[str, list[str]]]:
    """Encode PNG bytes as data URIs."""
    return {
        site: {label: [_data_uri(image) for image in images] for label, images in by_class.items()}
        for site, by_class in samples.items()
    }


def _with_data_uris(examples: Examples | None, results: dict[str, Any]) -> Examples:
    """Encode the images of examples as data URIs."""

    def encoded(shown: dict[str, Any]) -> dict[str, Any]:
        return shown | {"image": _data_uri(shown["image"])}

    if not examples:
        return {}
    by_site = {
        site: [encoded(row) | {"maps": [encoded(found) for found in row["maps"]]} for row in rows]
        for site, rows in shown(examples["sites"], results).items()
    }
    return examples | {"sites": by_site}


def _data_uri(image: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(image).decode()
