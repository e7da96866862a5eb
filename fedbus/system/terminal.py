"""Colours and progress bars of the terminal."""

from typing import TYPE_CHECKING

from fedbus.system.progress import Advance

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

GOOD, BAD, QUIET = "bold dodger_blue1", "bold dark_orange", "dim"
"""Blue and orange can be told apart with every kind of colour blindness; words always carry the same meaning."""


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
