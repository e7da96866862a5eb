"""A run compared with the paper, in figures and in numbers of images: for terminal and page."""

from functools import partial
from typing import Any

from markupsafe import Markup
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.comparison.tables import HEADLINE
from fedbus.reports.paper import published
from fedbus.reports.templates import render_fragment
from fedbus.reports.terminal_table import FittedTable, add_figure_column, add_label_column, figure_cell, new_table

TITLE = "Comparison with the paper"

CENSUS_TITLE = "Number of images"

CONCLUSION = (
    "This is a comparison, not a replication. The split, the images left after removing duplicates, the image size "
    "and the number of epochs differ, and the paper's F1 need not be the macro F1 used here. So a lower figure here "
    "does not show that the paper's can't be reached, and an equal one does not confirm it. The paper does not tell "
    "whether its split leaked, so how much a leak would explain is unknown too. The intervals are of this run's "
    "figures only: they do not test the difference."
)

CENSUS_NOTE = (
    "The paper states {stated} images in its combined set, its classes add up to {classes}, and its three datasets "
    "publish {published}. The paper does not tell which images it used."
)


def paper_table(results: dict[str, Any]) -> FittedTable | None:
    """Lay out datasets (rows) by accuracy, F1 and AUC, the paper's and ours; None if no row can be paired."""
    rows = published.pair_with_paper(results)
    if not rows:
        return None
    return FittedTable(partial(_side_by_side, results, rows), partial(_one_below_the_other, results, rows))


def census_table(results: dict[str, Any]) -> FittedTable | None:
    """Lay out the published images by class and the images of a run; None if no row can be paired."""
    rows = published.census(results)
    if not rows:
        return None
    return FittedTable(*(partial(_census, results, rows, stacked=stacked) for stacked in (False, True)))


def paper_fragment(results: dict[str, Any]) -> Markup:
    """Render both tables for a section of a page, with all text escaped; empty if no row can be paired."""
    rows = published.pair_with_paper(results)
    if not rows:
        return Markup("")
    counted = published.census(results)
    return render_fragment(
        "paper/tables.html", results=results, paper=published, rows=rows, census=counted,
        census_note=census_note(counted), census_title=CENSUS_TITLE, conclusion=CONCLUSION,
        ours=published.our_protocol(results), named=named,
    )  # fmt: skip


def census_note(rows: list[published.CensusRow]) -> str:
    """Describe the three totals that do not agree."""
    total = next(row.images for row in rows if row.what == published.ADDED_UP)
    return CENSUS_NOTE.format(
        stated=published.STATED_IMAGES, classes=sum(published.STATED_CLASSES.values()), published=total
    )


def named(dataset: str, site: str | None) -> str:
    """Return the name of a dataset, with the name of its site if that is another."""
    return dataset if site in (None, dataset) else f"{dataset} (site {site})"


def _census(results: dict[str, Any], rows: list[published.CensusRow], *, stacked: bool) -> Table:
    table = new_table(CENSUS_TITLE, census_note(rows), phantoms=False)
    add_label_column(table)
    for heading in (*results["classes"], "all", "in this run", "left out"):
        add_figure_column(table, heading, justify="right")
    for row in rows:
        counts = [_count((row.classes or {}).get(label)) for label in results["classes"]]
        held = _held(row, results["classes"], "\n" if stacked else " ")
        cells = [named(row.what, row.site), *counts, _count(row.images), held, _count(row.left_out)]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _held(row: published.CensusRow, classes: list[str], separator: str) -> str:
    """Write the images of a run as their number and, in parentheses, the number of each class."""
    if row.held_images is None:
        return ""
    by_class = "" if row.held is None else f"{separator}({' + '.join(str(row.held[label]) for label in classes)})"
    return f"{row.held_images}{by_class}"


def _side_by_side(results: dict[str, Any], rows: list[published.Pairing]) -> Table:
    table = _paper(results)
    add_figure_column(table, "paper\naccuracy  F1  AUC")
    for metric in HEADLINE:
        add_figure_column(table, f"this run\n{wording.METRICS[metric]}")
    add_label_column(table)
    for row in rows:
        label, theirs = named(row.dataset, row.site), " ".join(_paper_figures(row))
        table.add_row(Text(label), Text(theirs), *_our_figures(row, stacked=False), Text(row.remark))
    return table


def _one_below_the_other(results: dict[str, Any], rows: list[published.Pairing]) -> Table:
    table = _paper(results)
    add_figure_column(table, "")
    for metric in HEADLINE:
        add_figure_column(table, wording.METRICS[metric])
    for row in rows:
        table.add_row(Text(named(row.dataset, row.site)), "paper", *map(Text, _paper_figures(row) or [""] * 3))
        table.add_row(Text(row.remark), "this run", *_our_figures(row, stacked=True))
        table.add_section()
    return table


def _paper(results: dict[str, Any]) -> Table:
    """Create the empty table with its caption and its first column."""
    protocols = f"The paper: {published.PROTOCOL}\nThis run: {published.our_protocol(results)}"
    table = new_table(TITLE, f"{published.REFERENCE}\n{protocols}\n{CONCLUSION}", phantoms=False)
    add_label_column(table)
    return table


def _paper_figures(row: published.Pairing) -> list[str]:
    return [wording.number(value) for value in (row.paper.accuracy, row.paper.f1, row.paper.auc)] if row.paper else []


def _our_figures(row: published.Pairing, *, stacked: bool) -> list[Text]:
    return [figure_cell(row.ours.get(metric), stacked=stacked) if row.ours else Text() for metric in HEADLINE]
