"""The paper's figures beside a run's own, and its count of images beside the archives': terminal and page."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich import box
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.paper import published

TITLE = "Beside the paper"

CENSUS_TITLE = "How many images are there?"

CONCLUSION = (
    "These figures stand side by side; they are not a replication. The split, the rows that are left without copies, "
    "the image size and the number of epochs differ, and the paper's F1 need not be macro F1 as here. So a lower "
    "figure here does not show that the paper's can't be reached, and an equal one does not confirm it. Whether the "
    "paper's split leaked can't be seen, and so neither can how much a leak would explain. The intervals are of our "
    "figures alone: they say nothing about the difference."
)

CENSUS_NOTE = (
    "The paper states {stated} images in its combined set; its classes add up to {classes}, and its three archives "
    "publish {archives}. Which images it used can't be seen."
)


def paper_table(results: dict[str, Any]) -> Table | None:
    """Lay out archives (rows) by accuracy, F1 and AUC, the paper's and ours; None where nothing can be paired."""
    rows = published.beside(results)
    if not rows:
        return None
    table = _table(
        TITLE,
        f"{published.REFERENCE}\nThe paper: {published.PROTOCOL}\nOurs: {published.our_protocol(results)}\n{CONCLUSION}",
    )
    for heading in (
        "",
        "paper\naccuracy  F1  AUC",
        *(f"ours\n{wording.METRICS[metric]}" for metric in ("accuracy", "macro_f1", "auc")),
        "",
    ):
        table.add_column(heading, overflow="fold")
    for row in rows:
        said = row.paper and " ".join(
            wording.number(value) for value in (row.paper.accuracy, row.paper.f1, row.paper.auc)
        )
        ours = [wording.with_interval(row.ours.get(m)) if row.ours else "" for m in ("accuracy", "macro_f1", "auc")]
        cells = [named(row.archive, row.site), said or "", *ours, row.remark]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def census_table(results: dict[str, Any]) -> Table | None:
    """Lay out published images by class beside those that a run holds; None where nothing can be paired."""
    rows = published.census(results)
    if not rows:
        return None
    table = _table(CENSUS_TITLE, census_note(rows))
    for heading in ("", *results["classes"], "all", "in this run", "left out"):
        table.add_column(heading, justify="left" if not heading else "right", overflow="fold")
    for row in rows:
        counts = [_count((row.classes or {}).get(label)) for label in results["classes"]]
        held = "" if row.held_images is None else _held(row, results["classes"])
        cells = [named(row.what, row.site), *counts, _count(row.images), held, _count(row.left_out)]
        table.add_row(*(Text(cell) for cell in cells))
    return table


def paper_fragment(results: dict[str, Any]) -> Markup:
    """Both tables for a section of a page, without its heading, all text escaped; empty where nothing can be paired."""
    rows = published.beside(results)
    if not rows:
        return Markup("")
    environment = Environment(
        loader=FileSystemLoader([Path(__file__).parent, Path(__file__).parents[1]]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    counted = published.census(results)
    page = environment.get_template("tables.html").render(
        results=results, words=wording, paper=published, rows=rows, census=counted, census_note=census_note(counted),
        census_title=CENSUS_TITLE, conclusion=CONCLUSION, ours=published.our_protocol(results), named=named,
    )  # fmt: skip
    return Markup(page)


def census_note(rows: list[published.CensusRow]) -> str:
    """The three sums that do not agree, in one sentence."""
    archives = next(row.images for row in rows if row.what == published.ADDED_UP)
    return CENSUS_NOTE.format(
        stated=published.STATED_IMAGES, classes=sum(published.STATED_CLASSES.values()), archives=archives
    )


def named(archive: str, site: str | None) -> str:
    """An archive with the run's name for it, where that is another."""
    return archive if site in (None, archive) else f"{archive} (site {site})"


def _count(value: int | None) -> str:
    return "" if value is None else str(value)


def _held(row: published.CensusRow, classes: list[str]) -> str:
    by_class = "" if row.held is None else f" ({' + '.join(str(row.held[label]) for label in classes)})"
    return f"{row.held_images}{by_class}"


def _table(title: str, caption: str) -> Table:
    return Table(title=title, caption=Text(caption), box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
