"""Train the same federation on FedBUS and on its peers, in one run: `make bench-peers`.

    python -m simulations.benchmarks.peers OUT

Each framework runs in its own process. One that fails or can't be installed is missing from the table, with the reason.
OUT/bench-peers.json: the table, written after each framework; OUT/NAME.json: when its rounds ended; OUT/NAME.log: what
it printed. With --only, the named frameworks are measured again and the others are kept.
"""

import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from fedbus.runs.environment import describe_environment
from fedbus.system.files import read_json, write_json
from fedbus.system.processes import end_child, log_tail, start_child
from fedbus.system.threads import waiting_policy
from simulations.benchmarks.other_work import MARK, OtherWork
from simulations.benchmarks.peer_install import install_peer
from simulations.benchmarks.peer_memory import family_peak
from simulations.benchmarks.peer_table import OURS, peer_table, ratios, row_of

SETTINGS: dict[str, Any] = {
    "model": "resnetv2_18", "weights": "none", "image-size": 64, "batch-size": 16, "phantom-images": 60, "rounds": 4,
    "arms": ["fedavg"],
}  # fmt: skip
"""Three synthetic sites (phantoms) and a small model: few enough steps for all frameworks in minutes on two cores."""


RESULTS_FILE = "bench-peers.json"


@dataclass(frozen=True)
class Framework:
    """A way to train the federation.

    Attributes:
        name: Name of its files.
        title: What is printed while it runs.
        arguments: Words after `python -m simulations.benchmarks.`, before the files.
        peer: Name of its requirements; empty if this environment has what it needs.
        package: Its distribution, for its version.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    peer: str = ""
    package: str = ""


FRAMEWORKS = (
    Framework(OURS, "FedBUS", ("peer_ours",), package="fedbus"),
    Framework("ours-3-workers", "FedBUS, three sites at a time", ("peer_ours", "--workers", "3"), package="fedbus"),
    Framework("ours-in-process", "FedBUS, engine=in-process", ("peer_ours", "--in-process"), package="fedbus"),
    Framework("bare", "bare loop, no framework", ("peer_ours", "--bare")),
    Framework("pfl-matched", "pfl-research, our steps", ("peer_pfl",), "pfl", "pfl"),
    Framework("fluke", "fluke, our steps", ("peer_fluke",), "fluke", "fluke-fl"),
    Framework("nvflare", "NVIDIA FLARE, our steps", ("peer_nvflare",), "nvflare", "nvflare"),
    Framework("pfl", "pfl-research, its own loop", ("peer_pfl_plain",), "pfl", "pfl"),
    Framework("plain-flower", "Flower's quickstart", ("plain_flower",), package="flwr"),
)


def main(
    out: Annotated[Path, typer.Argument(help="Folder of the results.")] = Path("runs/bench/peers"),
    only: Annotated[
        str, typer.Option(help='Names of frameworks, as in "ours nvflare"; OUT/bench-peers.json keeps the others.')
    ] = "",
) -> None:
    """Run all frameworks, write OUT/bench-peers.json and print one table."""
    console, file, names = Console(), out / RESULTS_FILE, [each.name for each in FRAMEWORKS]
    wanted = only.split() or names
    if unknown := set(wanted) - set(names):
        console.print(f"Error: There is no {', '.join(sorted(unknown))}.\nWhat to do: Choose from: {', '.join(names)}.")
        raise typer.Exit(2)
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "settings.json", SETTINGS | {"cache": str((out / "cache").resolve())})
    kept: dict[str, Any] = read_json(file) if only and file.exists() else {"rows": [], "missing": {}}
    rows = {row["name"]: row for row in kept["rows"]}
    missing: dict[str, str] = kept["missing"]
    for framework in FRAMEWORKS:
        if framework.name not in wanted:
            continue
        console.print(f"{framework.title} …")
        rows.pop(framework.name, None)
        missing.pop(framework.name, None)
        found = run_framework(framework, out)
        if isinstance(found, str):
            missing[framework.name] = found
        else:
            rows[framework.name] = found
        ordered = [rows[name] for name in names if name in rows]
        result = {"part": "peers", "rows": ordered, "missing": missing, "settings": SETTINGS}
        write_json(file, result | ratios(ordered) | describe_environment())
    console.print(peer_table(ordered, missing))
    console.print(f"Figures: {file}", markup=False, soft_wrap=True)
    raise typer.Exit(1 if OURS in missing else 0)  # the others need a network


def run_framework(framework: Framework, out: Path) -> dict[str, Any] | str:
    """Run one framework.

    Returns:
        Its row of the table, or why it has none.
    """
    mark = f"{os.getpid()}-{framework.name}"
    environment: dict[str, str] = waiting_policy() | {MARK: mark}
    overlay: Path | None = None
    if framework.peer:
        installed = install_peer(framework.peer)
        if isinstance(installed, str):
            return installed
        overlay = installed
        environment["PYTHONPATH"] = os.pathsep.join([str(overlay), *filter(None, [os.environ.get("PYTHONPATH")])])
    result, log = out / f"{framework.name}.json", out / f"{framework.name}.log"
    shutil.rmtree(result.with_suffix(""), ignore_errors=True)  # of an earlier run, which must not be resumed
    for path in (result, log):
        path.unlink(missing_ok=True)
    module, *options = framework.arguments
    words = [f"simulations.benchmarks.{module}", str(out / "settings.json"), str(result), *options]
    started = time.time()
    with OtherWork(mark) as other:  # before the child, which it would otherwise take for somebody else's
        child = start_child([sys.executable, "-m", *words], log, environment)
        try:
            with family_peak(child.pid) as peak:
                code = child.wait()
        finally:
            end_child(child)
    if code or not result.is_file():
        return f"failed ({log_tail(log)}); see {log}"
    version = find_version(framework.package, overlay)
    row = row_of(framework.name, version, read_json(result), started, peak.most, out)
    return row | {"other_share": other.facts["other_share"]}


def find_version(package: str, overlay: Path | None) -> str:
    """Return the version of a distribution, in a peer's folder or in this environment; empty for no package."""
    if not package:
        return ""
    path = [str(overlay)] if overlay else sys.path
    return next(each.version for each in metadata.distributions(name=package, path=path))


if __name__ == "__main__":
    typer.run(main)
