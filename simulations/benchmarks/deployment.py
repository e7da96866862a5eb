"""Measure what a round of a deployed federation costs besides training, with a hub and three sites on this machine.

    python -m simulations.benchmarks.deployment OUT.json [--model resnetv2_50] [--rounds 3] [--case flat --case secure]

Phantoms of 32 pixels, random weights: only the model's size matters.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import json
import statistics
import time
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
from server.hub.control import node_states
from simulations.benchmarks.process_use import Use, use_by_role
from simulations.local_federation import LocalFederation

CASES = ("flat", "flat-fp16", "dict", "secure")
"""The settings of `payload`; `secure` is `flat` with secure aggregation."""

IMAGES = 30
LIMIT_SECONDS = 1800.0
ONLINE = "online"
"""Flower's state of a site that is connected."""

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

SECURE = 'privacy = "secure-aggregation"\n'


def main(
    out: Path,
    model: Annotated[str, typer.Option(help="A timm classifier.")] = "resnetv2_50",
    rounds: Annotated[int, typer.Option(help="Rounds for each case; the first is not counted.")] = 3,
    case: Annotated[list[str] | None, typer.Option(help=f"One of {', '.join(CASES)}. Repeat for each.")] = None,
) -> None:
    """Measure each case, one after another, with the same hub and sites."""
    folder = out.with_suffix("")
    folder.mkdir(parents=True)
    datasets = {name: ("phantoms", path) for name, path in write_phantoms(folder / "phantoms", IMAGES, 0).items()}
    threads = {"OMP_NUM_THREADS": "1"}  # three sites share the processors
    with LocalFederation(folder / "federation", datasets, threads) as federation:
        join_seconds = _start(federation)
        rows = [measure(federation, folder, model, name, rounds) for name in case or CASES]
    seconds = {row["payload"]: row["round_seconds"] for row in rows}
    extra = seconds["secure"] - seconds["flat"] if {"secure", "flat"} <= seconds.keys() else None
    # Of the second run: it finds the images prepared by the first, as almost every run of a real site does.
    starts = {"startup_join_s": join_seconds, "startup_hub_run_s": (rows[1:] or rows)[0]["start_seconds"]}
    write_json(out, {"model": model, "rows": rows, "secure_extra_s": extra, **starts, **describe_environment()})
    Console().print(table(model, rows))


def _start(federation: LocalFederation) -> float:
    """Start the hub and the sites; return the seconds from `fedbus site join` to a connected site, for the first."""
    federation.start_hub()
    federation.approve_sites()
    first, *others = federation.sites
    started = time.monotonic()
    federation.start_site(first)
    federation.wait_until(lambda: ONLINE in (node_states(federation.hub) or {}).values(), first)
    seconds = time.monotonic() - started
    for name in others:
        federation.start_site(name)
    return seconds


def measure(federation: LocalFederation, out: Path, model: str, case: str, rounds: int) -> dict[str, Any]:
    """Train in one way and measure its rounds.

    Returns:
        Medians over the rounds after the first: seconds per round, seconds of the slowest site's work, the difference
        (None with secure aggregation, which hides the times of sites); seconds from the command to the first round;
        megabytes per message; processor seconds per round and peak memory by the processes' role.

    Raises:
        RunError: If the run fails.
    """
    payload, secure = ("flat", True) if case == "secure" else (case, False)
    settings = out / f"{case}.toml"
    text = SETTINGS.format(model=model, payload=payload, rounds=rounds)
    settings.write_text(text + SECURE * secure, encoding="utf-8")
    path = federation.hub.runs / case / "arms" / "fedavg" / "history.jsonl"
    started = time.time()
    uses, first_round_end = _follow(federation, settings, path, rounds)
    first_line, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    whole = [line["seconds"] for line in lines]
    work = [] if secure else [max(line["site_seconds"].values()) for line in lines]
    arrays = pack(start_state(model, "none", 0), payload)
    first, last = uses[0], uses[-1]
    return {
        "payload": case,
        "round_seconds": statistics.median(whole),
        "work_seconds": statistics.median(work) if work else None,
        "outside_seconds": statistics.median([a - b for a, b in zip(whole, work, strict=True)]) if work else None,
        "start_seconds": first_round_end - first_line["seconds"] - started,
        "megabytes": sum(array.nbytes for array in arrays.values()) / 1e6,
        "arrays": len(arrays),
        **{f"{role}_cpu_seconds": (last.seconds[role] - first.seconds[role]) / len(lines) for role in last.seconds},
        **{f"{role}_megabytes": max(use.megabytes[role] for use in uses) for role in last.megabytes},
    }


def _follow(federation: LocalFederation, settings: Path, history: Path, rounds: int) -> tuple[list[Use], float]:
    """Run to the end.

    Returns:
        What the processes had used from the end of the first round to that of the last; when the first round ended, in
        seconds of `time.time`.
    """
    run, deadline = federation.run(settings), time.monotonic() + LIMIT_SECONDS
    uses, done, first_round_end = list[Use](), 0, 0.0
    while run.poll() is None:
        if time.monotonic() > deadline:
            raise RunError(f"The run {settings.stem} takes too long.", f"See {federation.log('run')}.")
        before, done = done, len(history.read_text(encoding="utf-8").splitlines()) if history.is_file() else 0
        first_round_end = first_round_end or (time.time() if done else 0.0)
        if done and before < rounds:
            uses.append(use_by_role(federation.folder))
        time.sleep(0.2)
    if run.returncode != 0 or not uses:
        raise RunError(f"The run {settings.stem} failed.", f"See {federation.log('run')}.")
    return uses, first_round_end


def table(model: str, rows: list[dict[str, Any]]) -> Table:
    """Make the table of all measurements."""
    made = Table(title=f"{model}, one hub and three sites on this machine (phantoms)", box=None, header_style="bold")
    for heading in ("payload", "arrays", "MB per message", "round, s", "work at the slowest site, s", "outside, s"):
        made.add_column(heading, justify="right")
    for row in rows:
        times = [row[key] for key in ("round_seconds", "work_seconds", "outside_seconds")]
        seconds = ["" if found is None else f"{found:.1f}" for found in times]
        made.add_row(row["payload"], str(row["arrays"]), f"{row['megabytes']:.1f}", *seconds)
    return made


if __name__ == "__main__":
    typer.run(main)
