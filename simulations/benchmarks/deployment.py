"""Measure what a round of a deployed federation costs besides training, with a hub and three sites on this machine.

    python -m simulations.benchmarks.deployment OUT.json [--model resnetv2_50] [--rounds 3]

Phantoms of 32 pixels, random weights: only the model's size matters.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedbus.datasets.readers.phantoms import write_phantoms
from fedbus.errors import RunError
from fedbus.models.start import start_state
from fedbus.runs.environment import describe_environment
from fedbus.system.files import write_json
from fedbus.transport.packing import pack
from simulations.local_federation import LocalFederation

PAYLOADS = ("flat", "flat-fp16", "dict")
IMAGES = 30
LIMIT_SECONDS = 1800.0

SETTINGS = """\
arms = ["fedavg"]
model = "{model}"
payload = "{payload}"
rounds = {rounds}
weights = "none"
image-size = 32
batch-size = 8
bootstrap = 10
device = "cpu"
"""


def main(
    out: Path,
    model: Annotated[str, typer.Option(help="A timm classifier.")] = "resnetv2_50",
    rounds: Annotated[int, typer.Option(help="Rounds for each payload; the first is not counted.")] = 3,
) -> None:
    """Measure each payload, one after another, with the same hub and sites."""
    folder = out.with_suffix("")
    folder.mkdir(parents=True)
    datasets = {name: ("phantoms", path) for name, path in write_phantoms(folder / "phantoms", IMAGES, 0).items()}
    threads = {"OMP_NUM_THREADS": "1"}  # three sites share the processors
    with LocalFederation(folder / "federation", datasets, threads) as federation:
        federation.start()
        rows = [measure(federation, folder, model, payload, rounds) for payload in PAYLOADS]
    write_json(out, {"model": model, "rows": rows, **describe_environment()})
    Console().print(table(model, rows))


def measure(federation: LocalFederation, out: Path, model: str, payload: str, rounds: int) -> dict[str, Any]:
    """Train with one payload and measure its rounds.

    Returns:
        Medians over the rounds after the first: seconds per round, seconds of the slowest site's work, the difference;
        and megabytes per message.

    Raises:
        RunError: If the run fails.
    """
    settings = out / f"{payload}.toml"
    settings.write_text(SETTINGS.format(model=model, payload=payload, rounds=rounds), encoding="utf-8")
    if federation.run(settings).wait(LIMIT_SECONDS) != 0:
        raise RunError(f"The run with payload = {payload} failed.", f"See {federation.log('run')}.")
    path = federation.hub.runs / payload / "arms" / "fedavg" / "history.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][1:]
    whole = [line["seconds"] for line in lines]
    work = [max(line["site_seconds"].values()) for line in lines]
    arrays = pack(start_state(model, "none", 0), payload)
    return {
        "payload": payload,
        "round_seconds": statistics.median(whole),
        "work_seconds": statistics.median(work),
        "outside_seconds": statistics.median([a - b for a, b in zip(whole, work, strict=True)]),
        "megabytes": sum(array.nbytes for array in arrays.values()) / 1e6,
        "arrays": len(arrays),
    }


def table(model: str, rows: list[dict[str, Any]]) -> Table:
    """Make the table of all measurements."""
    made = Table(title=f"{model}, one hub and three sites on this machine (phantoms)", box=None, header_style="bold")
    for heading in ("payload", "arrays", "MB per message", "round, s", "work at the slowest site, s", "outside, s"):
        made.add_column(heading, justify="right")
    for row in rows:
        seconds = [f"{row[key]:.1f}" for key in ("round_seconds", "work_seconds", "outside_seconds")]
        made.add_row(row["payload"], str(row["arrays"]), f"{row['megabytes']:.1f}", *seconds)
    return made


if __name__ == "__main__":
    typer.run(main)
