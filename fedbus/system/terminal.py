"""What all command lines print with: colours, progress bars, plain lines and the message after Ctrl-C."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from fedbus.system.progress import Advance
from fedbus.system.signals import exit_status
from fedbus.text import MOST_OF_A_LINE, plain_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Table
    from rich.text import Text

GOOD, BAD, QUIET = "bold dodger_blue1", "bold dark_orange", "dim"
"""Blue and orange are distinguishable with every kind of colour blindness; words always carry the same meaning."""


def print_line(text: str) -> None:
    """Print a line of text without markup, colours and line breaks, so that commands and paths can be copied."""
    from rich.console import Console

    Console().print(plain_text(text, MOST_OF_A_LINE), markup=False, highlight=False, soft_wrap=True)


def print_log_line(text: str) -> None:
    """Print a line of text with the time of day, as `print_line`."""
    print_line(f"{datetime.now():%H:%M:%S}  {text}")


@contextmanager
def resumable(finished: str, options: str) -> Iterator[None]:
    """Turn Ctrl-C or SIGTERM inside the block into a message that says how to resume, and exit.

    Args:
        finished: What is saved, in the plural: "Finished rounds".
        options: What to add to the command to resume it.
    """
    try:
        yield
    except KeyboardInterrupt:
        print_line(f"Stopped. {finished} are saved; rerun the same command with: {options}")
        raise SystemExit(exit_status()) from None


def plain_table(*headings: str, title: "str | Text" = "", title_style: str = "bold") -> "Table":
    """Create a table without lines, its title on the left; columns with these headings wrap wherever they must."""
    from rich.table import Table

    table = Table(
        title=title, box=None, pad_edge=False, header_style="bold", title_justify="left", title_style=title_style
    )
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def progress_bar(console: "Console") -> "Progress":
    """Return progress bars with "description, bar, M of N, time left" that disappear when they are done.

    Use it as a context manager and add tasks with `advance_task`.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True)


def advance_task(bar: "Progress", description: str, total: int) -> Advance:
    """Add a task of `total` steps to a progress bar and return the function that advances it."""
    task = bar.add_task(description, total=total)
    return lambda count: bar.advance(task, count)
