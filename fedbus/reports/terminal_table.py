"""Tables for the terminal that fit its width without breaking an interval."""

from collections.abc import Callable
from typing import Any

from rich import box
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from fedbus.reports import wording

LABEL_WIDTH = 28
"""Longest line of a row's label; longer labels are wrapped."""

_UNLIMITED = 10_000


class FittedTable:
    """The same content in several layouts, widest first; prints the first one that fits the terminal.

    Rich would narrow a table by wrapping every cell, which breaks intervals in the middle.
    """

    def __init__(self, *layouts: Callable[[], RenderableType]) -> None:
        self.layouts = layouts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the first layout that fits, or the last one."""
        for layout in self.layouts:
            shown = layout()
            if Measurement.get(console, options.update(width=_UNLIMITED), shown).maximum <= options.max_width:
                break
        yield shown
        yield ""


def new_table(title: str, caption: str, *, phantoms: bool) -> Table:
    """Create an empty table in the look of all reports, with the phantom warning above its title if needed."""
    title = f"{wording.PHANTOMS}\n{title}" if phantoms else title
    return Table(
        title=Text(title), caption=Text(f"\n{caption}"), caption_justify="left",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False,
    )  # fmt: skip


def add_label_column(table: Table, heading: str = "") -> None:
    """Add a column of names, which may wrap."""
    table.add_column(Text(heading), overflow="fold", max_width=LABEL_WIDTH)


def add_figure_column(table: Table, heading: str, justify: JustifyMethod = "left") -> None:
    """Add a column of figures, which never wrap; its heading wraps at its own line breaks only."""
    table.add_column(Text(heading), justify=justify, no_wrap=True)


def figure_cell(metric: dict[str, Any] | None, *, stacked: bool, signed: bool = False, bold: bool = False) -> Text:
    """Write a metric as `.912 (.880–.941) ±.010` on one line, or stacked: value, interval and spread on lines."""
    if not stacked:
        text = wording.with_interval(metric, signed)
    else:
        lines = (wording.value(metric, signed), wording.interval(metric).strip("()"), wording.spread(metric))
        text = "\n".join(line for line in lines if line)
    return Text(text, style="bold" if bold else "")


def difference_cell(difference: dict[str, Any] | None, *, stacked: bool) -> Text:
    """Write a difference with its sign, in bold if its interval excludes 0."""
    decided = difference is not None and wording.is_decided(difference)
    return figure_cell(difference, stacked=stacked, signed=True, bold=decided)
