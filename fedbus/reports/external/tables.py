"""The tables of `fedbus evaluate` in the terminal."""

from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from fedbus.evaluation.site_mean import ALL
from fedbus.reports import wording
from fedbus.reports.external.summary import na_reason
from fedbus.reports.terminal_table import (
    FittedTable,
    add_figure_column,
    add_label_column,
    difference_cell,
    figure_cell,
    new_table,
)

METRICS = ("auc", "macro_f1", "accuracy", "ece")
"""Metrics in the order of the columns."""

COMPARED = ("auc", "macro_f1", "accuracy")
"""Metrics of the paired differences."""

NOTE = "Value and 95 % interval (bootstrap over test groups), ± standard deviation if several seeds were trained."
CLASSES_NOTE = "Sensitivity of each class. LOST: below {guessing}, that of guessing. n: images of the class."
DIFFERENCES_NOTE = "Paired, on the same draws of test groups; bold: the interval excludes 0."


def models_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the models (rows) and their metrics with intervals.

    Args:
        results: The content of `evaluation.json`.
    """
    return FittedTable(*(partial(_models, results, stacked=stacked) for stacked in (False, True)))


def classes_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the sensitivity of each class (columns) of every model, as `models_table`."""
    return FittedTable(*(partial(_classes, results, stacked=stacked) for stacked in (False, True)))


def differences_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the paired differences of the first model to the others, as `models_table`."""
    return FittedTable(*(partial(_differences, results, stacked=stacked) for stacked in (False, True)))


def _models(results: dict[str, Any], *, stacked: bool) -> Table:
    (name,) = results["sites"]
    table = new_table(f"{name}: {wording.size(results, ALL)}", NOTE, phantoms=results["phantoms"])
    add_label_column(table)
    for metric in METRICS:
        add_figure_column(table, wording.METRICS[metric].replace(" ", "\n"))
    for model in results["arms"]:
        found = wording.scores(results, model, ALL)
        cells = [figure_cell(found.get(metric), stacked=stacked) for metric in METRICS]
        table.add_row(Text(wording.arm_label(model)), *cells)
    return table


def _classes(results: dict[str, Any], *, stacked: bool) -> Table:
    note = CLASSES_NOTE.format(guessing=wording.number(wording.GUESSING))
    table = new_table("Sensitivity by class", note, phantoms=results["phantoms"])
    add_label_column(table)
    for label in results["classes"]:
        add_figure_column(table, f"{label}\nn={wording.tested(results, ALL, label)}")
    for model in results["arms"]:
        cells = [_class_cell(results, model, label, stacked=stacked) for label in results["classes"]]
        table.add_row(Text(wording.arm_label(model)), *cells)
    return table


def _class_cell(results: dict[str, Any], model: str, label: str, *, stacked: bool) -> Text:
    metric = wording.recall(results, model, ALL, label)
    if metric is None:
        return Text(f"{wording.MISSING}: {na_reason(results, label)}".replace(" has ", "\nhas "))  # cells do not wrap
    cell = figure_cell(metric, stacked=stacked)
    return cell.append("\nLOST" if stacked else " LOST") if metric["value"] < wording.GUESSING else cell


def _differences(results: dict[str, Any], *, stacked: bool) -> Table:
    first, *others = results["arms"]
    title = f"{wording.arm_label(first)} minus the others"
    table = new_table(title, DIFFERENCES_NOTE, phantoms=results["phantoms"])
    add_label_column(table)
    for metric in COMPARED:
        add_figure_column(table, wording.METRICS[metric])
    for other in others:
        found = {row["metric"]: row for row in results["differences"] if row["reference"] == other}
        cells = [difference_cell(found.get(metric), stacked=stacked) for metric in COMPARED]
        table.add_row(Text(f"minus {wording.arm_label(other)}"), *cells)
    return table
