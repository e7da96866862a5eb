"""What each leaky cell of a study claims, and what the same weights reach on held-out groups: for the terminal."""

from functools import partial
from typing import Any

from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.comparison.tables import HEADLINE
from fedbus.reports.study.rows import arm_label
from fedbus.reports.study.summary import leaks_of
from fedbus.reports.terminal_table import (
    FittedTable,
    add_figure_column,
    add_label_column,
    difference_cell,
    figure_cell,
    new_table,
)

NOTE = (
    "Claim: on the leaky split's own test rows. Truth: the same weights on held-out groups, none of whose images was "
    "used for training. 95 % intervals. Claim and truth have different test rows, so the difference is not paired. "
    "Bold: the interval excludes 0."
)


def leak_table(content: dict[str, Any]) -> FittedTable | None:
    """Lay out claims against truths, three rows per cell and arm; None if nothing leaks.

    Args:
        content: The content of `study.json`.
    """
    leaks = leaks_of(content)
    if not leaks:
        return None
    return FittedTable(*(partial(_table, content, leaks, stacked=stacked) for stacked in (False, True)))


def _table(content: dict[str, Any], leaks: list[dict[str, Any]], *, stacked: bool) -> Table:
    table = new_table("Claim and truth", NOTE, phantoms=content["phantoms"])
    add_label_column(table)
    add_label_column(table)
    for metric in HEADLINE:
        add_figure_column(table, wording.METRICS[metric])
    for leak in leaks:
        for name, side in ((leak["cell"], "claim"), (arm_label(leak["arm"]), "truth")):
            cells = [figure_cell(leak[side].get(metric), stacked=stacked) for metric in HEADLINE]
            table.add_row(Text(name), side, *cells)
        differences = [difference_cell(leak["difference"].get(metric), stacked=stacked) for metric in HEADLINE]
        table.add_row("", "claim − truth", *differences)
        table.add_section()
    return table
