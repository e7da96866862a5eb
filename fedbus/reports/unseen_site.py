"""The tables of `fedbus score` in the terminal: arms at a site that took no part in their training."""

from functools import partial
from itertools import groupby
from typing import Any

from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.terminal_table import (
    FittedTable,
    add_figure_column,
    add_label_column,
    difference_cell,
    figure_cell,
    new_table,
)

METRICS = ("auc", "accuracy", "macro_f1")
"""Metrics in the order of the columns."""

NOTE = "Value and 95 % interval (bootstrap over test groups), ± standard deviation if several seeds were trained."
MEAN_NOTE = "Mean of sites: BatchNorm stays at the sites, so its arrays are the mean of theirs."
RECALIBRATED_NOTE = "Recalibrated: BatchNorm's statistics are those of the tested images themselves, without labels."
DIFFERENCES_NOTE = "Paired, on the same draws of test groups; bold: the interval excludes 0."


def scores_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the arms (rows, one for each kind of BatchNorm statistics) and their metrics with intervals.

    Args:
        results: The content of `scores.json`.
    """
    return FittedTable(*(partial(_scores, results, stacked=stacked) for stacked in (False, True)))


def differences_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the paired differences of the federated arms, as `scores_table`."""
    return FittedTable(*(partial(_differences, results, stacked=stacked) for stacked in (False, True)))


def _scores(results: dict[str, Any], *, stacked: bool) -> Table:
    site = results["site"]
    notes = [NOTE, *([MEAN_NOTE] if results["mean_of_sites"] else []), *_recalibrated_note(results)]
    title = f"Models of {', '.join(results['trained_at'])} at {site['name']}"
    size = f"{sum(site['tested'].values())} images in {site['groups']} groups"
    table = _new_table(f"{title}: {size}", " ".join(notes), results)
    for arm, kinds in results["arms"].items():
        table.add_section()
        for kind, metrics in kinds.items():
            cells = [figure_cell(metrics[metric], stacked=stacked) for metric in METRICS]
            label = wording.arm_label(arm) if kind == next(iter(kinds)) else ""
            table.add_row(Text(label), Text(_kind_label(results, arm, kind)), *cells)
    return table


def _differences(results: dict[str, Any], *, stacked: bool) -> Table:
    table = _new_table(f"Differences at {results['site']['name']}", DIFFERENCES_NOTE, results)
    pairs = groupby(results["differences"], key=lambda line: (line["arm"], line["reference"], line["batch_norm"]))
    before = ("", "")
    for (arm, reference, kind), lines in pairs:
        found = {line["metric"]: line for line in lines}
        label = ""
        if (arm, reference) != before:
            table.add_section()
            before, label = (arm, reference), f"{wording.arm_label(arm)} minus {wording.arm_label(reference)}"
        cells = [difference_cell(found.get(metric), stacked=stacked) for metric in METRICS]
        table.add_row(Text(label), Text(_kind_label(results, arm, kind)), *cells)
    return table


def _new_table(title: str, caption: str, results: dict[str, Any]) -> Table:
    table = new_table(title, caption, phantoms=results["phantoms"])
    add_label_column(table)
    add_label_column(table, "BatchNorm")
    for metric in METRICS:
        add_figure_column(table, wording.METRICS[metric])
    return table


def _kind_label(results: dict[str, Any], arm: str, kind: str) -> str:
    """Name the BatchNorm statistics of a row."""
    return "mean of sites" if kind == "as-trained" and arm in results["mean_of_sites"] else kind.replace("-", " ")


def _recalibrated_note(results: dict[str, Any]) -> list[str]:
    return [RECALIBRATED_NOTE] if any("recalibrated" in kinds for kinds in results["arms"].values()) else []
