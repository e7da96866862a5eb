"""The report: one HTML file that opens anywhere, offline, and shows the whole comparison."""

import base64
import json
from collections.abc import Iterable
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from fedbus.reports import wording
from fedbus.reports.comparison import curves, figures, heatmaps, summary
from fedbus.reports.comparison.curves import Histories
from fedbus.reports.comparison.tables import HEADLINE
from fedbus.system.files import write_text

HERE = Path(__file__).parent
SHARED = HERE.parent

Samples = dict[str, dict[str, list[bytes]]]


def write_report(results: dict[str, Any], histories: Histories, samples: Samples, path: Path) -> None:
    """Write the report of a comparison, whole or not at all.

    Everything is inside the one file: figures as SVG, pictures as base64, no script, nothing fetched. All
    text of the results is escaped.

    Args:
        results: the content of `results.json`.
        histories: the rounds of each arm; arms may be missing.
        samples: thumbnails by site and class, PNG bytes; may be empty.
        path: of the HTML file.

    Raises:
        RunError: the disk is full or the folder can't be written.
    """
    write_text(path, render_report(results, histories, samples))


def render_report(results: dict[str, Any], histories: Histories, samples: Samples) -> str:
    """Build the page's HTML; arguments as `write_report`. Equal arguments give equal text."""
    environment = Environment(
        loader=FileSystemLoader([HERE, SHARED]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"plain": _plain, "duration": wording.duration}
    return environment.get_template("page.html").render(
        results=results,
        words=wording,
        headline=list(HEADLINE) if wording.note_on_auc(results) else [*HEADLINE, "ece"],
        arms_by_family=[(name, list(arms)) for name, arms in groupby(wording.ordered_arms(results), wording.family)],
        findings=summary.findings(results),
        cautions=summary.cautions(results),
        differences=_differences(results),
        federation={arm: stretches(record["rounds"]) for arm, record in results.get("federation", {}).items()},
        figures=_figures(results, histories),
        pictures=_pictures(samples),
        style=Markup((SHARED / "style.css").read_text(encoding="utf-8")),
    )


def stretches(rounds: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join successive rounds with the same participants and the same refusals.

    Returns:
        {"first", "last", "participants", "refused"} a stretch, in the order of the rounds.
    """
    found: list[dict[str, Any]] = []
    for entry in rounds:
        who = {"participants": list(entry.get("participants", [])), "refused": dict(entry.get("refused", {}))}
        if found and all(found[-1][key] == value for key, value in who.items()):
            found[-1]["last"] = entry["round"]
        else:
            found.append({"first": entry["round"], "last": entry["round"], **who})
    return found


def _figures(results: dict[str, Any], histories: Histories) -> dict[str, Markup]:
    """Draw every figure; its text is escaped by the SVG writer."""
    drawn = {
        "forest": figures.forest_plot(results),
        "differences": figures.differences_plot(results),
        "matrix": heatmaps.cross_site_matrix(results),
        "recall": heatmaps.recall_map(results),
        "confusion": heatmaps.confusion_matrices(results),
        "curves": curves.validation_curves(results, histories),
        "shared": curves.shared_curves(results, histories),
        "balance": curves.class_balance(results),
    }
    return {name: Markup(text) for name, text in drawn.items()}


def _differences(results: dict[str, Any]) -> list[tuple[str, str, list[tuple[str, dict[str, Any]]]]]:
    """Group the differences: (arm, reference, [(site, {metric: row})]), in the order of the results."""
    grouped: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in results.get("differences", []):
        by_site = grouped.setdefault((row["arm"], row["reference"]), {})
        by_site.setdefault(row["site"], {})[row["metric"]] = row
    return [(arm, reference, list(by_site.items())) for (arm, reference), by_site in grouped.items()]


def _pictures(samples: Samples) -> dict[str, dict[str, list[str]]]:
    """Encode PNG bytes as data URIs."""
    return {
        site: {
            label: ["data:image/png;base64," + base64.b64encode(picture).decode() for picture in pictures]
            for label, pictures in by_class.items()
        }
        for site, by_class in samples.items()
    }


def _plain(value: object) -> str:
    """Write a setting as a reader would type it: text bare, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
