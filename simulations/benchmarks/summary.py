"""Compute the figures of `bench.json` from what the parts measured, and lay them out as a table."""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from fedbus.system.terminal import BAD, GOOD

Found = Mapping[str, Mapping[str, Any]]
"""What each part measured, by the part's name."""


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        key: Its key in `bench.json`.
        words: What it measures, for the table.
        needs: The parts from whose measurements it is computed.
        compute: The figure from all parts.
        aim: The aim in words; empty if there is none.
        least, most: The range in which the aim is reached.
    """

    key: str
    words: str
    needs: frozenset[str]
    compute: Callable[[Found], float]
    aim: str = ""
    least: float = -math.inf
    most: float = math.inf


def figures_of(device: str) -> tuple[Figure, ...]:
    """Return all figures, with the aims for a kind of device: `cpu` or `cuda`."""
    ceiling, plain, bare = (0.97, 2.0, 1.05) if device == "cpu" else (0.95, 5.0, 1.25)
    return (
        _measured(
            "engine_over_ceiling", "engine", "images/s: our loop over the model on one resident batch", least=ceiling
        ),
        _measured(
            "engine_over_plain", "engine", "images/s: our loop over ImageFolder, DataLoader, float32", least=plain
        ),
        _measured("federation_over_bare", "federation", "seconds: a federated round over a bare loop's", most=bare),
        _measured("federation_over_steps", "federation", "the same, over only the bare loop's optimiser steps"),
        _measured("federation_startup_s", "federation", "seconds until a simulation trains", most=15),
        _rival("plain_flower_over_ours", "plain_flower", "seconds: a round of Flower's quickstart over ours"),
        _rival("pfl_over_ours", "peer", "seconds: a round of pfl-research over ours", "plain"),
        _rival("pfl_matched_over_ours", "peer", "the same, pfl-research with our arithmetic", "matched"),
        _measured("inference_over_bare", "inference", "images/s: fedbus predict over a bare timm loop", least=0.95),
        _measured("onnxruntime_over_bare", "inference", "images/s: ONNX Runtime over a bare timm loop"),
        _measured("secure_site_s", "secure", "seconds per site and round for secure aggregation, 10 sites", most=3),
        _measured("secure_bytes_over_flat", "secure", "bytes: a round with secure aggregation over flat", most=1.1),
        _measured("secure_mask_over_floor", "secure", "seconds: masking over only the cipher and the additions"),
        _measured("memory_slope_mb_per_round", "rounds", "MB that memory grows per round"),
    )


def _measured(key: str, part: str, words: str, *, least: float = -math.inf, most: float = math.inf) -> Figure:
    """Make a figure that a part computed itself, with its aim, if it has one."""
    aim = f"at least {least:g}" if least > -math.inf else f"at most {most:g}" if most < math.inf else ""
    return Figure(key, words, frozenset({part}), lambda found: float(found[part][key]), aim, least, most)


def _rival(key: str, part: str, words: str, way: str = "") -> Figure:
    """Make the ratio of another simulator's median round (after the first) to ours."""

    def compute(found: Found) -> float:
        run = found[part][way] if way else found[part]
        return float(statistics.median(run["round_seconds"][1:]) / found["federation"]["round_s"])

    return Figure(key, words, frozenset({part, "federation"}), compute)


def figures(found: Found) -> dict[str, Any]:
    """Compute all figures; None where a part is missing.

    Parts compare what they ran themselves; rounds of other simulators are compared with ours of the same run.
    """
    return {figure.key: figure.compute(found) if figure.needs <= found.keys() else None for figure in figures_of("cpu")}


def table(result: Mapping[str, Any], device: str) -> Table:
    """Make the table of figures and aims; a missing figure is n/a, with the reason below the table.

    A quick run's images and rounds are too small for the aims: the costs of a round besides its steps weigh more.
    """
    notes = [f"{name}: {why}" for name, why in result["missing"].items()]
    if result["quick"]:
        notes.append("The aims apply to a full run, whose images and rounds are larger.")
    made = Table(title="FedBUS on this machine (phantoms)", caption="\n".join(notes) or None, box=box.SIMPLE)
    for heading in ("", "figure", "aim", ""):
        made.add_column(heading, justify="right" if heading == "figure" else "left")
    for figure in figures_of(device):
        value = result[figure.key]
        verdict = Text()
        if value is not None and figure.aim and not result["quick"]:
            verdict = Text("reached", GOOD) if figure.least <= value <= figure.most else Text("missed", BAD)
        made.add_row(figure.words, "n/a" if value is None else f"{value:.3g}", figure.aim, verdict)
    return made
