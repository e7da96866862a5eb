"""Measure on this machine: `make bench`, or `python -m simulations.benchmarks`.

Each part runs in its own process. If one fails, the table shows n/a with the reason, and the others continue.
OUT/bench.json: the figures, written after each part; OUT/NAME.json: what a part measured; OUT/NAME.log: its output.
With --only, the named parts are measured again and the others are kept.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import os
import shutil
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedbus.device import pick_device
from fedbus.errors import FedbusError, RunError
from fedbus.runs.environment import describe_environment
from fedbus.system.files import read_json, write_json
from fedbus.system.processes import end_child, log_tail, start_child
from simulations.benchmarks.other_work import MARK, OtherWork
from simulations.benchmarks.parts import FULL, QUICK, Part, pick_parts
from simulations.benchmarks.results import Results, read_results
from simulations.benchmarks.table import table

SETTINGS_FILE, RESULTS_FILE = "settings.json", "bench.json"


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the results.")] = Path("runs/bench"),
    quick: Annotated[bool, typer.Option(help="Under five minutes on two cores; the figures are rougher.")] = False,
    only: Annotated[
        str, typer.Option(help='Names of parts, as in "startup deployment"; OUT/bench.json keeps the others.')
    ] = "",
) -> None:
    """Run all parts or the named ones, write OUT/bench.json and print one table."""
    console, settings = Console(), QUICK if quick else FULL
    try:
        parts = pick_parts(only, quick=quick)
        results = open_results(out / RESULTS_FILE, settings, quick=quick, keep=bool(only))
    except FedbusError as error:
        console.print(f"Error: {error.problem}\nWhat to do: {error.remedy}", markup=False, soft_wrap=True)
        raise typer.Exit(2) from None
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SETTINGS_FILE, settings | {"cache": str((out / "cache").resolve())})
    failed = run_parts(parts, out, results, console)
    console.print(table(results, pick_device("auto").type))
    console.print(f"Figures: {out / RESULTS_FILE}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if failed else 0)


def open_results(path: Path, settings: dict[str, Any], *, quick: bool, keep: bool) -> Results:
    """Start new results, or continue those of an earlier run.

    Args:
        path: The `bench.json`.
        settings: The settings of this run.
        quick: Whether this run is a quick one.
        keep: Whether the parts of an earlier run are kept.

    Raises:
        RunError: If the earlier run had other settings, or its file can't be read.
    """
    if not (keep and path.exists()):
        return Results(quick, settings)
    earlier = read_results(path)
    if (earlier.quick, earlier.settings) != (quick, settings):
        raise RunError(
            f"{path} was measured with other settings{', with QUICK=1' if earlier.quick else ''}.",
            "Name another folder: make bench OUT=FOLDER.",
        )
    return earlier


def run_parts(parts: Sequence[Part], out: Path, results: Results, console: Console) -> list[str]:
    """Run parts one after another, and write `results` after each.

    Returns:
        The names of those that failed.
    """
    failed: list[str] = []
    run = datetime.now(UTC).isoformat(timespec="seconds")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(30),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("measure", total=sum(part.minutes for part in parts))
        for part in parts:
            bars.update(task, description=part.title)
            started, facts = time.monotonic(), _facts()
            with OtherWork(f"{os.getpid()}-{part.name}") as other:
                why = run_part(part, out, results.quick)
            if why:
                failed.append(part.name)
                results.lose(part.name, why)
                bars.console.print(f"{part.title}: {why}", markup=False)
            else:
                facts |= {"run": run, "seconds": round(time.monotonic() - started), **other.facts}
                results.take(part.name, read_json(out / f"{part.name}.json"), facts)
            results.write(out / RESULTS_FILE)
            bars.advance(task, part.minutes)
    return failed


def _facts() -> dict[str, Any]:
    return {key: value for key, value in describe_environment().items() if key != "command"}


def run_part(part: Part, out: Path, quick: bool) -> str:
    """Run one part, and return why it failed; empty if it did not."""
    environment = {MARK: f"{os.getpid()}-{part.name}"}
    result, log = out / f"{part.name}.json", out / f"{part.name}.log"
    shutil.rmtree(result.with_suffix(""), ignore_errors=True)  # of an earlier run, which must not be resumed
    for path in (result, log):
        path.unlink(missing_ok=True)
    words = part.command(out / SETTINGS_FILE, result, quick=quick)
    child = start_child([sys.executable, "-m", *words], log, environment)
    try:
        code = child.wait()
    finally:
        end_child(child)
    return "" if code == 0 and result.is_file() else f"failed ({log_tail(log)}); see {log}"


if __name__ == "__main__":
    typer.run(main)
