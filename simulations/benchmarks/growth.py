"""Measure what grows with rounds, sites, images and model size: memory, seconds, bytes.

    python -m simulations.benchmarks.growth (rounds|sites|images|models) OUT.json [--quick]

Each case runs in its own process, so that memory use is not mixed.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import tempfile
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from fedbus.runs.environment import describe_environment
from fedbus.system.files import write_json
from simulations.benchmarks.growth_federation import measure_model, measure_rounds, measure_sites
from simulations.benchmarks.growth_images import measure_images
from simulations.benchmarks.growth_memory import exponent, run_apart


class Part(StrEnum):
    """What grows."""

    ROUNDS = "rounds"
    SITES = "sites"
    IMAGES = "images"
    MODELS = "models"


Measure = Callable[..., dict[str, Any]]

CASES: dict[Part, tuple[Measure, tuple[tuple[Any, ...], ...], tuple[tuple[Any, ...], ...]]] = {
    Part.ROUNDS: (measure_rounds, (("resnetv2_50", 50),), (("resnetv2_18", 20),)),
    Part.SITES: (
        measure_sites,
        ((3,), (10,), (30,), (100,), (100, 2), (100, 4), (100, 8), (300,), (1000,), (1000, 2)),
        ((3,), (10,)),
    ),
    Part.IMAGES: (measure_images, ((1000,), (10_000,), (100_000,)), ((500,), (2000,))),
    Part.MODELS: (
        measure_model,
        (
            ("mobilenetv2_100",), ("resnetv2_18",), ("resnetv2_50",), ("resnetv2_101",), ("resnetv2_152",),
            ("ecaresnet269d",),
        ),
        (("mobilenetv2_100",), ("resnetv2_18",)),
    ),
}  # fmt: skip
"""For each part: the function that measures a case, and the arguments of all cases, full and quick."""

TRENDS = {
    Part.SITES: ("sites", ("round_s",)),
    Part.IMAGES: ("images", ("open_s", "near_pairs_s", "epoch_s")),
    Part.MODELS: ("model_mb", ("outside_s",)),
}
"""For each part, the size and the figures that grow with it, as size to a fitted exponent; 1 is proportional."""


def main(
    part: Part,
    out: Annotated[Path, typer.Argument(help="JSON file of the result.")],
    quick: Annotated[bool, typer.Option(help="Fewer and smaller cases.")] = False,
) -> None:
    """Measure one part, and write OUT."""
    measure, full, few = CASES[part]
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    with tempfile.TemporaryDirectory(dir=out.parent.resolve(), prefix=".growth-") as scratch:
        for number, arguments in enumerate(few if quick else full):
            rows.append(run_apart(measure, Path(scratch) / str(number), *arguments))
            print("  ".join(f"{key} {value:.4g}" for key, value in rows[-1].items() if isinstance(value, float)))
    write_json(out, {"part": part, "quick": quick, **summarise(part, rows), **describe_environment()})


def summarise(part: Part, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return a part's figures: those of its only case, or all cases and the exponents of their growth."""
    if part is Part.ROUNDS:
        return rows[0]
    size, keys = TRENDS[part]
    alike = [row for row in rows if row.get("workers", 1) == 1]
    sizes = [row[size] for row in alike]
    return {"exponents": {key: exponent(sizes, [row[key] for row in alike]) for key in keys}, "rows": rows}


if __name__ == "__main__":
    typer.run(main)
