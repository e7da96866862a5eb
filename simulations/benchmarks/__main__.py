"""Measure everything on this machine in one run: `make bench`, or `python -m simulations.benchmarks`.

Each part runs in its own process. If one fails, the table shows n/a with the reason, and the others continue.
OUT/bench.json: the figures; OUT/NAME.json: what each part measured; OUT/NAME.log: what it printed.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from fedbus.device import pick_device
from fedbus.runs.environment import describe_environment
from fedbus.system.files import read_json, write_json
from fedbus.system.processes import end_child, log_tail, start_child
from fedbus.system.threads import waiting_policy
from simulations.benchmarks.parts import FULL, PARTS, QUICK, Part
from simulations.benchmarks.peer_pfl import install_peer
from simulations.benchmarks.summary import figures, table

SETTINGS_FILE = "settings.json"


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the results.")] = Path("runs/bench"),
    quick: Annotated[bool, typer.Option(help="Under five minutes on two cores; the figures are rougher.")] = False,
) -> None:
    """Run all parts, write OUT/bench.json and print one table."""
    console, settings = Console(), (QUICK if quick else FULL) | {"cache": str((out / "cache").resolve())}
    parts = [part for part in PARTS if part.quick or not quick]
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / SETTINGS_FILE, settings)
    found, missing = run_parts(parts, out, quick, console)
    result = figures(found) | {"missing": missing, "quick": quick, "settings": settings}
    write_json(out / "bench.json", result | describe_environment() | {"parts": found})
    console.print(table(result, pick_device("auto").type))
    console.print(f"Figures: {out / 'bench.json'}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if missing.keys() - {"peer"} else 0)  # the peer needs a network


def run_parts(
    parts: Sequence[Part], out: Path, quick: bool, console: Console
) -> tuple[dict[str, dict[str, Any]], dict[str, str]]:
    """Run parts one after another.

    Returns:
        What each part measured, and why parts failed, by name.
    """
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
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
            why = run_part(part, out, quick)
            if why:
                missing[part.name] = why
                bars.console.print(f"{part.title}: {why}", markup=False)
            else:
                found[part.name] = read_json(out / f"{part.name}.json")
            bars.advance(task, part.minutes)
    return found, missing


def run_part(part: Part, out: Path, quick: bool) -> str:
    """Run one part, and return why it failed; empty if it did not."""
    environment = waiting_policy()
    if part.name == "peer":
        overlay = install_peer()
        if isinstance(overlay, str):
            return overlay
        environment["PYTHONPATH"] = os.pathsep.join([str(overlay), *filter(None, [os.environ.get("PYTHONPATH")])])
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
