"""The table of `fedbus hub evaluate` in the terminal, and the words that it shares with the page."""

from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from fedbus.classes import CLASSES
from fedbus.reports import wording
from fedbus.reports.terminal_table import FittedTable, add_figure_column, add_label_column, figure_cell, new_table
from fedbus.text import NOT_A_DEVICE

METRICS = ("accuracy", "macro_f1", "auc")
"""Metrics with one value, in the order of the columns."""

BATCH_NORM = {
    "shared": "as in the model",
    "own": "the site's own, from the training",
    "adapted": "adapted to the site's training images, without labels",
}
"""By what a site reports: whose BatchNorm the model was tested with."""

ALL = "all sites"

NOTE = "Value and 95 % interval over groups of test images (a patient's images and their near-duplicates)."

POOLED_NOTE = "AUC over all sites needs the score of each image, which stays at the site."


def rows_of(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """List the places with their metrics: every site, then all together if there are several."""
    rows = [(name, site["metrics"]) for name, site in results["sites"].items()]
    return [*rows, (ALL, results["all"])] if len(rows) > 1 else rows


def which_rows(results: dict[str, Any]) -> str:
    """Explain in a sentence which images were scored."""
    if results["model"]["own"]:
        return "Each site scored its test images of the run that made the model; none was used to train or choose it."
    return (
        "Each site scored only its test images, by the split in the model's settings: its other images may have been "
        "used to train the model."
    )


def evaluation_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the metrics of a model (columns) at every site (rows).

    Args:
        results: The content of `evaluation.json`.
    """
    return FittedTable(*(partial(_table, results, stacked=stacked) for stacked in (False, True)))


def _table(results: dict[str, Any], *, stacked: bool) -> Table:
    several = [POOLED_NOTE] if len(results["sites"]) > 1 else []
    notes = " ".join([which_rows(results), NOTE, *several, NOT_A_DEVICE])
    model = results["model"]
    title = f"{wording.arm_label(model['arm'])}, seed {model['seed']}, at {len(results['sites'])} sites of this hub"
    table = new_table(title, notes, phantoms=results["phantoms"])
    add_label_column(table, "Site")
    add_figure_column(table, "images", "right")
    for metric in METRICS:
        add_figure_column(table, wording.METRICS[metric])
    add_figure_column(table, "sensitivity,\nmalignant")
    malignant = CLASSES.index("malignant")
    for place, metrics in rows_of(results):
        if place == ALL:
            table.add_section()
        found = [metrics[metric] for metric in METRICS] + [metrics["sensitivity"][CLASSES[malignant]]]
        table.add_row(
            Text(place), Text(str(metrics["images"])), *(figure_cell(each, stacked=stacked) for each in found)
        )
    return table
