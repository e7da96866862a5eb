"""A study as tables: for the terminal (rich) and for documents (GitHub markdown)."""

import html
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording
from fedbus.reports.comparison.tables import HEADLINE
from fedbus.reports.study.rows import COMPARED, Block, Row, blocks
from fedbus.system import terminal

NOTE = (
    "Test figures with 95 % intervals (test groups redrawn). Differences are paired with the default; the word higher "
    "or lower stands where the interval excludes 0, not corrected for the number of cells."
)
CHOICE = "A choice is made on validation, never on test figures: best is the highest validation macro F1 of its block."
FIRST_FOLD = "Test figures are of all folds; validation, steps, time and the table beside a paper's are of the first."
OWN_ROWS = "Own test rows: another split, so no difference is paired; its figures are what that split claims."

_WIDTHS = (21, 10, 10, 10, 14, 14, 5, 8)
"""Of the terminal table's columns: with a space after each they make 100."""


def study_table(content: dict[str, Any]) -> Table:
    """Lay out a study for the terminal, one block an arm, a row a cell, in at most 100 columns.

    Args:
        content: of `study.json`.

    Returns:
        A table whose rows are whole tables: the reason of a failed cell runs over the full width.
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
    outer.add_column()
    outer.add_row(_columns(header=True))
    outer.add_row(Rule(style="dim"))
    for block in blocks(content):
        outer.add_row(Text(block.title + (f" ({block.size})" if block.size else ""), style="bold"))
        for part in _parts(block):
            outer.add_row(part)
        outer.add_row("")
    return outer


def markdown_study_table(content: dict[str, Any]) -> str:
    """Write the study as one GitHub markdown table, ending in a newline, names and reasons escaped."""
    headings = ["", *(wording.METRICS[metric] for metric in HEADLINE)]
    headings += [f"{wording.METRICS[metric]} less the default's" for metric in COMPARED]
    headings += ["validation macro F1", "steps", "time"]
    lines = [headings, ["---"] * len(headings)]
    for block in blocks(content):
        heading = f"**{_escaped(block.title)}**" + (f" ({block.size})" if block.size else "")
        lines.append([heading, *[""] * (len(headings) - 1)])
        lines += [_markdown_row(block, row, len(headings)) for row in block.rows]
    above = [f"**{wording.PHANTOMS}**", ""] if content["phantoms"] else []
    return "\n".join([*above, *("| " + " | ".join(line) + " |" for line in lines), "", note(content)]) + "\n"


def validation_words(block: Block, row: Row) -> tuple[str, str]:
    """Give a row's validation macro F1, and `best` where no other of the block is higher; `leaky` where it leaks."""
    shown = wording.number(row.validation.get("macro_f1"))
    return shown, "leaky" if row.leaky and row.validation else "best" if row is block.best else ""


def work_words(row: Row) -> tuple[str, str]:
    """Give optimiser steps and time of a row, `n/a` where they are not known."""
    steps, seconds = row.work.get("steps"), row.work.get("seconds")
    return (
        wording.MISSING if steps is None else str(steps),
        wording.MISSING if seconds is None else f"{seconds / 60:.1f} min",
    )


def difference_words(block: Block, row: Row, metric: str) -> tuple[str, str, str]:
    """Give a difference as value, interval and verdict; the last is empty unless the interval excludes 0."""
    if row.default:
        return "reference", "", ""
    found = row.difference(metric, block.place)
    if found is None:
        return ("own rows" if row.leaky else wording.MISSING), "", ""
    verdict = wording.verdict(found)
    return wording.value(found, signed=True), wording.interval(found), verdict if verdict in ("higher", "lower") else ""


def _parts(block: Block) -> Iterator[Table | Text]:
    """Tables of figures, and between them the cells that have none."""
    for holes, rows in groupby(block.rows, key=lambda row: bool(row.hole)):
        if holes:
            for row in rows:
                name = (_name(row), "bold" if row.default else "")
                yield Text.assemble(name, "  ", (row.hole, terminal.BAD))
            continue
        table = _columns(header=False)
        for row in rows:
            table.add_row(*_cells(block, row))
        yield table


def _columns(*, header: bool) -> Table:
    table = Table(box=None, show_header=header, padding=(0, 1, 0, 0), pad_edge=False)
    headings = ["", "accuracy", "macro F1", "AUC", "AUC less\ndefault's", "macro F1 less\ndefault's"]
    headings += ["val.\nF1", "steps\ntime"]
    for heading, width in zip(headings, _WIDTHS, strict=True):
        table.add_column(heading, width=width, overflow="fold")
    return table


def _cells(block: Block, row: Row) -> list[Text]:
    """Two lines a cell: the figure, and under it its interval."""
    found = [Text(_name(row, under=True), style="bold" if row.default else "")]
    for metric in HEADLINE:
        figure = row.metrics.get(metric)
        found.append(_lines(wording.value(figure), wording.interval(figure).strip("()"), wording.spread(figure)))
    for metric in COMPARED:
        value, interval, verdict = difference_words(block, row, metric)
        style = terminal.GOOD if verdict == "higher" else terminal.BAD if verdict == "lower" else ""
        found.append(
            Text(f"{value} {verdict}".rstrip(), style=style).append(f"\n{interval.strip('()')}" if interval else "")
        )
    found.append(_lines(*validation_words(block, row)))
    found.append(_lines(*work_words(row)))
    return found


def _lines(*parts: str) -> Text:
    return Text("\n".join(part for part in parts if part))


def _name(row: Row, *, under: bool = False) -> str:
    if not row.note:
        return row.cell
    return f"{row.cell}\n({row.note})" if under else f"{row.cell} ({row.note})"


def _markdown_row(block: Block, row: Row, columns: int) -> list[str]:
    name = f"**{_escaped(row.cell)}** (the default)" if row.default else _escaped(_name(row))
    if row.hole:
        return [name, _escaped(row.hole), *[""] * (columns - 2)]
    found = [name, *(wording.with_interval(row.metrics.get(metric)) for metric in HEADLINE)]
    for metric in COMPARED:
        value, interval, verdict = difference_words(block, row, metric)
        found.append(" ".join(part for part in (value, interval, f"**{verdict}**" if verdict else "") if part))
    value, mark = validation_words(block, row)
    return [*found, f"{value} **{mark}**" if mark else value, *work_words(row)]


def note(content: dict[str, Any]) -> str:
    """What stands under the tables of a study."""
    leaky = any("leakage" in cell for cell in content["cells"].values())
    folds = content.get("folds", 1) > 1
    return f"{NOTE} {CHOICE}" + (f" {FIRST_FOLD}" if folds else "") + (f" {OWN_ROWS}" if leaky else "")


def _escaped(text: str) -> str:
    return html.escape(" ".join(text.split()), quote=False).replace("|", "\\|")
