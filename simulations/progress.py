"""Progress bars in the terminal while a comparison runs: one per arm, with images per second and time left."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from fedbus.system.progress import Advance
from fedbus.text import MOST_OF_A_LINE, plain_text


class _Speed(ProgressColumn):
    """Images per second; empty before the first batch."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:,.0f} images/s" if speed else "", style="cyan")


class ArmProgress:
    """Progress bars for decoding and for each arm, on one console."""

    def __init__(self, console: Console, seeds: int) -> None:
        self.seeds = seeds
        self.bars = Progress(
            TextColumn("{task.description}"), BarColumn(30), TextColumn("{task.percentage:>3.0f} %"),
            _Speed(), TimeRemainingColumn(elapsed_when_finished=True), TextColumn("{task.fields[note]}"),
            console=console, refresh_per_second=4,
        )  # fmt: skip

    def __enter__(self) -> "ArmProgress":
        self.bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.bars.stop()

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self.bars.console.print(Text(plain_text(text, MOST_OF_A_LINE), style="dim"))

    def decoding(self, site: str, images: int) -> Advance:
        """Add a bar for reading one dataset."""
        task = self.bars.add_task(f"read {site}", total=images, note="")
        return lambda count: self.bars.advance(task, count)

    @contextmanager
    def arm(self, name: str, seed: int, images: int) -> Iterator[Advance]:
        """Show a bar for an arm that trains in one place."""
        task = self.bars.add_task(self._title(name, seed), total=images, note="")
        yield lambda count: self.bars.advance(task, count)
        self.bars.update(task, completed=images)

    def rounds(self, name: str, seed: int, images: int, rounds: int) -> Callable[[dict[str, Any]], object]:
        """Return the callback that advances a federated arm's bar with each round's history line."""
        tasks: list[Any] = []

        def on_round(line: dict[str, Any]) -> None:
            if not tasks:  # the bar appears with the first round: arms train one after another
                tasks.append(self.bars.add_task(self._title(name, seed), total=images * rounds, note=""))
            refused = ", ".join(line["refused"])
            note = f"round {line['round']} of {rounds}" + (f", refused: {refused}" if refused else "")
            self.bars.update(tasks[0], completed=line["round"] * images, note=note)

        return on_round

    def _title(self, name: str, seed: int) -> str:
        return f"train {name}" + (f" (seed {seed})" if self.seeds > 1 else "")
