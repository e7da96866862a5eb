"""The tables of a study: for the terminal (rich) and for documents (GitHub markdown)."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby
from typing import Any

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fedbus.evaluation.site_mean import MEAN
from fedbus.reports import wording
from fedbus.reports.comparison.tables import HEADLINE, MEAN_NOTE
from fedbus.reports.study.rows import COMPARED, Block, Row, blocks
from fedbus.reports.terminal_table import FittedTable, figure_cell
from fedbus.system import terminal

NOTE = (
    "Test figures with 95 % intervals (bootstrap over test groups). Differences to the default are paired; the word "
    "higher or lower means that the interval excludes 0, without correction for the number of cells."
)
COMPARED_MEAN = "On all test images, AUC minus default is that of the mean of sites."
CHOICE = "Choose settings by validation, never by test figures: best is the highest validation macro F1 of its block."
FIRST_FOLD = (
    "Test figures are means over folds of the figure in each fold; validation, steps, time and the comparison with the "
    "paper are of the first fold."
)
OWN_ROWS = (
    "Own test rows: the cell has another split, so no difference is paired; its figures are what that split claims."
)

_NAME_WIDTHS = (21, 45)
"""Shortest and longest width of the column of names."""

_INDENT = 2
"""Of the figures, where a name is above them."""

_COLUMNS = {
    "macro F1": 10,
    "AUC mean\nof sites": 10,
    "AUC": 10,
    "AUC minus\ndefault": 14,
    "macro F1 minus\ndefault": 14,
    "val.\nF1": 5,
    "steps\ntime": 8,
}
"""Headings and widths of the columns of figures. They are fixed, so that the tables of all blocks line up.

Accuracy has no room in a terminal of 80 columns; it is on the page and in `table.md`.
"""


def study_table(content: dict[str, Any]) -> FittedTable:
    """Lay out a study for the terminal: one block per arm, one row per cell, the interval below its value.

    The names are beside the figures if the terminal has 100 columns, above them if it has 80.

    Args:
        content: The content of `study.json`.
    """
    longest = max((len(row.cell) for block in blocks(content) for row in block.rows), default=0)
    shortest_width, longest_width = _NAME_WIDTHS
    widths = dict.fromkeys((min(max(longest, shortest_width), longest_width), shortest_width, 0))
    return FittedTable(*(partial(_study, content, width) for width in widths))


def _study(content: dict[str, Any], name_width: int) -> Table:
    """Lay out a study with names in a column of this width, or above the figures for width 0.

    Its rows are whole tables, so that the reason of a failed cell can take the full width.
    """
    title = f"{content['title']}: {content['question']}" if content["question"] else str(content["title"])
    outer = Table(
        title=Text(f"{wording.PHANTOMS}\n{title}" if content["phantoms"] else title),
        caption=Text(note(content)),
        caption_justify="left",
        box=None,
        show_header=False,
        padding=0,
        pad_edge=False,
    )
    outer.add_column(width=(name_width + 1 if name_width else _INDENT) + sum(_COLUMNS.values()) + len(_COLUMNS) - 1)
    outer.add_row(_columns(name_width, header=True))
    outer.add_row(Rule(style="dim"))
    for block in blocks(content):
        outer.add_row(Text(block.title + (f" ({block.size})" if block.size else ""), style="bold"))
        for part in _parts(block, name_width):
            outer.add_row(part)
        outer.add_row("")
    return outer


def markdown_study_table(content: dict[str, Any]) -> str:
    """Write the study as one GitHub markdown table, ending in a newline, with names and reasons escaped."""
    headings = ["", "accuracy", "macro F1", "AUC, mean of sites", "AUC"]
    headings += [f"{wording.METRICS[metric]} minus default" for metric in COMPARED]
    headings += ["validation macro F1", "steps", "time"]
    lines = [headings, ["---"] * len(headings)]
    for block in blocks(content):
        heading = f"**{wording.markdown_cell(block.title)}**" + (f" ({block.size})" if block.size else "")
        lines.append([heading, *[""] * (len(headings) - 1)])
        lines += [_markdown_row(block, row, len(headings)) for row in block.rows]
    above = [f"**{wording.PHANTOMS}**", ""] if content["phantoms"] else []
    return "\n".join([*above, *("| " + " | ".join(line) + " |" for line in lines), "", note(content)]) + "\n"


def validation_words(block: Block, row: Row) -> tuple[str, str]:
    """Return a row's validation macro F1, and `best` if it is the highest of the block, `leaky` if the split leaks."""
    shown = wording.number(row.validation.get("macro_f1"))
    return shown, "leaky" if row.leaky and row.validation else "best" if row is block.best else ""


def work_words(row: Row) -> tuple[str, str]:
    """Return optimiser steps and time of a row, `n/a` where they are unknown."""
    steps, seconds = row.work.get("steps"), row.work.get("seconds")
    return (
        wording.MISSING if steps is None else str(steps),
        wording.MISSING if seconds is None else f"{seconds / 60:.1f} min",
    )


def difference_words(block: Block, row: Row, metric: str) -> tuple[str, str, str]:
    """Return a difference as value, interval and verdict; the verdict is empty unless the interval excludes 0."""
    if row.default:
        return "reference", "", ""
    found = row.difference(metric, block.place_of(metric))
    if found is None:
        return ("own rows" if row.leaky else wording.MISSING), "", ""
    verdict = wording.verdict(found) if wording.is_decided(found) else ""
    return wording.value(found, signed=True), wording.interval(found), verdict


def _parts(block: Block, name_width: int) -> Iterator[Table | Text]:
    """Yield tables of figures, and between them the cells that have none."""
    for has_no_figures, rows in groupby(block.rows, key=lambda row: bool(row.hole)):
        if has_no_figures:
            for row in rows:
                yield Text.assemble(_name(row), "  ", (row.hole, terminal.BAD))
        elif name_width:
            table = _columns(name_width)
            for row in rows:
                table.add_row(_name(row, under=True), *_figures(block, row))
            yield table
        else:
            for row in rows:
                table = _columns(name_width)
                table.add_row("", *_figures(block, row))
                yield _name(row)
                yield table


def _columns(name_width: int, *, header: bool = False) -> Table:
    table = Table(box=None, show_header=header, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("", width=name_width or _INDENT - 1, overflow="fold")
    for heading, width in _COLUMNS.items():
        table.add_column(heading, width=width, no_wrap=True)
    return table


def _figures(block: Block, row: Row) -> list[Text]:
    """Write the figures of a row on two lines: the value, and under it its interval."""
    f1, auc = (figure_cell(row.metrics.get(metric), stacked=True) for metric in ("macro_f1", "auc"))
    cells = [f1, figure_cell(row.figure("auc", MEAN), stacked=True) if block.has_mean else Text(), auc]
    for metric in COMPARED:
        value, interval, verdict = difference_words(block, row, metric)
        style = terminal.GOOD if verdict == "higher" else terminal.BAD if verdict == "lower" else ""
        cell = Text(f"{value} {verdict}".rstrip(), style=style)
        cells.append(cell.append(f"\n{interval.strip('()')}" if interval else ""))
    return [*cells, _lines(*validation_words(block, row)), _lines(*work_words(row))]


def _lines(*parts: str) -> Text:
    return Text("\n".join(part for part in parts if part))


def _name(row: Row, *, under: bool = False) -> Text:
    """Write the name of a cell, its note behind or `under` it."""
    style = "bold" if row.default else ""
    separator = "\n" if under else " "
    return Text(f"{row.cell}{separator}({row.note})" if row.note else row.cell, style=style)


def _markdown_row(block: Block, row: Row, columns: int) -> list[str]:
    name = (
        f"**{wording.markdown_cell(row.cell)}** (the default)"
        if row.default
        else wording.markdown_cell(_name(row).plain)
    )
    if row.hole:
        return [name, wording.markdown_cell(row.hole), *[""] * (columns - 2)]
    *others, auc = (wording.with_interval(row.metrics.get(metric)) for metric in HEADLINE)
    found = [name, *others, wording.with_interval(row.figure("auc", MEAN)) if block.has_mean else "", auc]
    for metric in COMPARED:
        value, interval, verdict = difference_words(block, row, metric)
        found.append(" ".join(part for part in (value, interval, f"**{verdict}**" if verdict else "") if part))
    value, mark = validation_words(block, row)
    return [*found, f"{value} **{mark}**" if mark else value, *work_words(row)]


def note(content: dict[str, Any]) -> str:
    """Return the note under the tables of a study."""
    leaky = any("leakage" in cell for cell in content["cells"].values())
    folds = content.get("folds", 1) > 1
    mean = any(block.has_mean for block in blocks(content))
    known = wording.site_known_note(content)
    notes = [NOTE, f"{MEAN_NOTE} {COMPARED_MEAN}" if mean else "", known, CHOICE]
    notes += [FIRST_FOLD if folds else "", OWN_ROWS if leaky else ""]
    return " ".join(text for text in notes if text)
