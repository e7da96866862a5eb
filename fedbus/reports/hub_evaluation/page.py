"""The page of `fedbus hub evaluate`: one HTML file that opens anywhere, offline."""

from pathlib import Path
from typing import Any

from fedbus.classes import CLASSES
from fedbus.evaluation.measured import CLASS_METRICS
from fedbus.reports.hub_evaluation.tables import BATCH_NORM, METRICS, NOTE, POOLED_NOTE, rows_of, which_rows
from fedbus.reports.templates import render
from fedbus.system.files import write_text
from fedbus.text import NOT_A_DEVICE


def write_page(results: dict[str, Any], path: Path) -> None:
    """Write the page of an evaluation, complete or not at all.

    Args:
        results: The content of `evaluation.json`.
        path: The HTML file.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    write_text(path, render_page(results))


def render_page(results: dict[str, Any]) -> str:
    """Render the page. Equal arguments give equal text."""
    return render(
        "hub_evaluation/page.html",
        results=results,
        rows=rows_of(results),
        metrics=(*METRICS, "ece"),
        class_metrics=CLASS_METRICS,
        classes=CLASSES,
        batch_norm=BATCH_NORM,
        which_rows=which_rows(results),
        note=NOTE,
        pooled_note=POOLED_NOTE if len(results["sites"]) > 1 else "",
        not_a_device=NOT_A_DEVICE,
        cautions=cautions(results),
    )


def cautions(results: dict[str, Any]) -> list[str]:
    """List what a reader must know before the figures."""
    sites, found = results["sites"], []
    if results["failures"]:
        missing = "; ".join(f"{name}: {reason}" for name, reason in results["failures"].items())
        found.append(f"No answer of {missing}. All sites together means those that answered.")
    adapted = [name for name, site in sites.items() if site["batch_norm"] == "adapted"]
    if adapted:
        found.append(
            f"The model has BatchNorm statistics only for the sites that it was trained at. At {', '.join(adapted)} "
            "they were estimated from the site's training images, without labels."
        )
    left_out = {name: site["left_out"] for name, site in sites.items() if site["left_out"]}
    if left_out:
        counts = ", ".join(f"{count} at {name}" for name, count in left_out.items())
        found.append(
            f"Test images left out because their group is near to images that the model was trained on: {counts}."
        )
    if not results["model"]["own"] and not results["model"]["seen"]:
        found.append(
            "The model folder has no fingerprints of its training images, so copies of them among the test images were "
            "not found."
        )
    return found
