"""The rows of `make bench-peers`, and their table."""

import itertools
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from safetensors.torch import load_file

OURS = "ours"
"""Name of our own federation, which runs first; the others are compared with it."""

Row = Mapping[str, Any]


def row_of(name: str, version: str, result: Mapping[str, Any], started: float, peak: int, out: Path) -> dict[str, Any]:
    """Compute a framework's row.

    Args:
        name: Name of its files.
        version: Its version.
        result: What `peer_result` wrote.
        started: When its program was started, in seconds of `time.time`.
        peak: The most bytes that its processes had at a time.
        out: Folder of the results, with our trained weights.

    Returns:
        `round_s`, the median round after the first; `start_s`, from the start of the program to its first round without
        the preparation of the sites; `peak_mb`; `accuracy` with `accuracy_low` and `accuracy_high`; `test_images`;
        `largest_weight_difference`, the largest absolute difference of a weight to ours; None if ours are missing.
    """
    ends = result["ends"]
    rounds = [after - before for before, after in itertools.pairwise(ends)]
    round_seconds = statistics.median(rounds)
    accuracy = result["test"]["accuracy"]
    return {
        "name": name,
        "version": version,
        "round_s": round_seconds,
        "rounds_s": rounds,
        "start_s": ends[0] - round_seconds - started - result["prepared_seconds"],
        "peak_mb": peak / 1e6,
        "accuracy": accuracy["value"],
        "accuracy_low": accuracy["low"],
        "accuracy_high": accuracy["high"],
        "test_images": result["test"]["images"],
        "steps_per_round": result["steps"][0],
        "largest_weight_difference": _difference(out / f"{OURS}.safetensors", out / f"{name}.safetensors"),
    }


def _difference(ours: Path, theirs: Path) -> float | None:
    """Return the largest absolute difference between the weights in two files; None if one is missing."""
    if not (ours.is_file() and theirs.is_file()):
        return None
    one, other = load_file(ours), load_file(theirs)
    return max(float((one[key] - other[key]).abs().max()) for key in one)


def ratios(rows: Sequence[Row]) -> dict[str, float]:
    """Return each framework's seconds per round over ours, as `NAME_over_ours`; empty if ours are missing."""
    ours = next((row["round_s"] for row in rows if row["name"] == OURS), None)
    if ours is None:
        return {}
    return {f"{row['name'].replace('-', '_')}_over_ours": row["round_s"] / ours for row in rows if row["name"] != OURS}


def peer_table(rows: Sequence[Row], missing: Mapping[str, str]) -> Table:
    """Make the table; what is missing is named below it with the reason."""
    notes = "\n".join(f"{name}: {why}" for name, why in missing.items())
    made = Table(title="The same federation on FedBUS and its peers (phantoms)", caption=notes or None, box=box.SIMPLE)
    made.add_column("")
    for heading in ("s per round", "over ours", "peak MB", "start s", "accuracy", "largest difference of a weight"):
        made.add_column(heading, justify="right")
    found = ratios(rows)
    for row in rows:
        ratio = found.get(f"{row['name'].replace('-', '_')}_over_ours")
        difference = row["largest_weight_difference"]
        made.add_row(
            f"{row['name']} {row['version']}".strip(),
            f"{row['round_s']:.2f}",
            "" if ratio is None else f"{ratio:.2f}",
            f"{row['peak_mb']:.0f}" if row["peak_mb"] else "n/a",
            f"{row['start_s']:.1f}",
            f"{row['accuracy']:.3f} ({row['accuracy_low']:.3f} to {row['accuracy_high']:.3f})",
            "n/a" if difference is None else f"{difference:.1g}" if row["name"] != OURS else "",
        )
    return made
