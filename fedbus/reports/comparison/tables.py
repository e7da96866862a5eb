"""The tables of a comparison: for the terminal (rich) and for documents (GitHub markdown)."""

from functools import partial
from itertools import groupby
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from fedbus.evaluation.site_mean import ALL, MEAN
from fedbus.reports import wording
from fedbus.reports.comparison.few_sites import NOTE as SITES_NOTE
from fedbus.reports.comparison.few_sites import few_sites
from fedbus.reports.terminal_table import FittedTable, add_figure_column, add_label_column, figure_cell, new_table

HEADLINE = ("accuracy", "macro_f1", "auc")
"""Metrics shown with their interval on all test images."""

Column = tuple[str, str]
"""A column of figures with intervals: its metric and its test set."""

BY_SITE = ("auc", "macro_f1")
"""Metrics shown for each site."""

NOTE = "Value and 95 % interval (bootstrap over test groups), ± standard deviation if several seeds were trained."

MEAN_NOTE = "Mean of sites: the mean of the sites' own figures, each on its own test images; each site counts the same."
"""Explains the primary figure under tables that have it."""


def comparison_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the arms (rows): metrics with intervals on all test images, then AUC and macro F1 at each site."""
    results = few_sites(results)
    sites = wording.scored_sites(results)
    table = partial(_comparison, results)
    return FittedTable(
        partial(table, sites, long_labels=True),
        partial(table, sites),
        partial(table, sites, stacked=True),
        *(
            partial(_split_comparison, results, per_table, stacked=stacked)
            for stacked in (False, True)
            for per_table in range(max(1, len(sites)), 0, -1)
        ),
    )


def headline(results: dict[str, Any]) -> list[Column]:
    """List the columns of figures with intervals: the primary AUC comes before the others."""
    primary = [("auc", MEAN)] if wording.primary(results) == MEAN else []
    return [("accuracy", ALL), ("macro_f1", ALL), *primary, ("auc", ALL)]


def recall_table(results: dict[str, Any]) -> FittedTable:
    """Lay out the recall of each class (columns) on each test set, for the centralised and the federated arms.

    A recall below that of guessing one of three classes is marked with the word LOST.
    """
    results = few_sites(results)
    return FittedTable(*(partial(_recall, results, lines) for lines in (1, 2, 3)))


def markdown_table(results: dict[str, Any]) -> str:
    """Write the comparison as a GitHub markdown table, ending in a newline, with site names escaped."""
    results = few_sites(results)
    sites = wording.scored_sites(results)
    headings = ["", *(_heading(metric, place, ", ") for metric, place in headline(results))]
    headings += [f"{site}: AUC macro F1" for site in sites]
    lines = [headings, ["---"] * len(headings)]
    for family, arms in groupby(wording.ordered_arms(results), key=wording.family):
        lines.append([f"**{family}**", *[""] * (len(headings) - 1)])
        for arm in arms:
            figures = [wording.scores(results, arm, place).get(metric) for metric, place in headline(results)]
            shown = [wording.with_interval(figure) for figure in figures]
            lines.append([wording.arm_label(arm), *shown, *(_site_values(results, arm, site) for site in sites)])
    head, rule, *body = ["| " + " | ".join(wording.markdown_cell(cell) for cell in line) + " |" for line in lines]
    above = [f"**{wording.PHANTOMS}**", ""] if results["phantoms"] else []
    return "\n".join([*above, head, rule, *body, "", _note(results)]) + "\n"


def _comparison(
    results: dict[str, Any],
    sites: list[str],
    *,
    with_headline: bool = True,
    stacked: bool = False,
    long_labels: bool = False,
    title: str = "Comparison",
) -> Table:
    columns = headline(results) if with_headline else []
    caption = f"{_note(results)} all: all test images. F1: macro F1." if columns else "F1: macro F1."
    table = new_table(title, caption, phantoms=results["phantoms"])
    add_label_column(table)
    for metric, place in columns:
        add_figure_column(table, _heading(metric, place, "\n"))
    for site in sites:
        add_figure_column(table, f"{site}\nAUC  F1")
    label = wording.long_arm_label if long_labels else wording.arm_label
    for _, arms in groupby(wording.ordered_arms(results), key=wording.family):
        table.add_section()
        for arm in arms:
            figures = [wording.scores(results, arm, place).get(metric) for metric, place in columns]
            cells = [figure_cell(figure, stacked=stacked) for figure in figures]
            table.add_row(Text(label(arm)), *cells, *(Text(_site_values(results, arm, site)) for site in sites))
    return table


def _split_comparison(results: dict[str, Any], per_table: int, *, stacked: bool) -> Group:
    """One table for all test images, and further tables of `per_table` sites each."""
    sites = wording.scored_sites(results)
    chunks = [sites[start : start + per_table] for start in range(0, len(sites), per_table)]
    return Group(
        _comparison(results, [], stacked=stacked),
        *(_comparison(results, chunk, with_headline=False, title="Comparison by site") for chunk in chunks),
    )


def _recall(results: dict[str, Any], lines: int) -> Table:
    note = f"LOST: recall below {wording.number(wording.GUESSING)}, that of guessing. n: test images of the class."
    table = new_table("Recall by class", f"Recall and 95 % interval. {note}", phantoms=results["phantoms"])
    arms_beside = lines == 1  # else above their rows, which saves a column
    if arms_beside:
        add_label_column(table)
    add_label_column(table, "tested on")
    for label in results["classes"]:
        add_figure_column(table, label)
    for arm in wording.shared_arms(results):
        table.add_section()
        name = Text(wording.arm_label(arm), style="bold")
        if not arms_beside:
            table.add_row(name)
        for place, site in enumerate(wording.test_sets(results)):
            beside = [name if place == 0 else Text()] if arms_beside else []
            cells = [_recall_cell(results, arm, site, label, lines) for label in results["classes"]]
            table.add_row(*beside, Text(wording.site_label(site)), *cells)
    return table


def _recall_cell(results: dict[str, Any], arm: str, site: str, label: str, lines: int) -> Text:
    """Write recall, interval and number of images on one line, on two (the number below), or on three."""
    metric = wording.recall(results, arm, site, label)
    images = wording.tested(results, site, label)
    if metric is None:
        return Text("no such images" if images == 0 else wording.MISSING)
    lost = " LOST" if metric["value"] < wording.GUESSING else ""
    separator = " " if lines == 1 else "\n"
    return figure_cell(metric, stacked=lines == 3).append(f"{separator}n={images}{lost}")


def _site_values(results: dict[str, Any], arm: str, site: str) -> str:
    metrics = wording.scores(results, arm, site)
    return " ".join(wording.value(metrics.get(metric)) for metric in BY_SITE)


def _note(results: dict[str, Any]) -> str:
    mean = MEAN_NOTE if wording.primary(results) == MEAN else ""
    totals = wording.TOTALS_ONLY if wording.totals_only(results) else ""
    notes = (
        results.get(SITES_NOTE, ""),
        NOTE,
        mean,
        wording.site_known_note(results),
        wording.note_on_auc(results),
        totals,
    )
    return " ".join(note for note in notes if note)


def _heading(metric: str, place: str, separator: str) -> str:
    return f"{wording.METRICS[metric]}{separator}{'mean of sites' if place == MEAN else 'all'}"
