"""The parts of `make bench`: which program measures what, with which settings."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.errors import SettingsError

FULL: dict[str, Any] = {
    "model": "resnetv2_50", "weights": "none", "image-size": 96, "batch-size": 32, "phantom-images": 300,
    "rounds": 3, "arms": ["fedavg"],
}  # fmt: skip
"""Three synthetic sites (phantoms), small enough for several runs on two cores."""

QUICK = FULL | {"image-size": 48, "batch-size": 16, "phantom-images": 60, "rounds": 3}


@dataclass(frozen=True)
class Part:
    """One program, run in its own process, so that memory and threads of parts do not interfere.

    Attributes:
        name: The name of its JSON file and its log.
        title: What it measures, for the terminal.
        arguments: Words after `python -m simulations.benchmarks.`; `{settings}` and `{out}` are replaced by its files,
            `{quick}` by the option that makes it smaller.
        minutes: Its rough duration on two cores, for the estimate of the remaining time.
        quick: Whether `QUICK=1` includes it.
    """

    name: str
    title: str
    arguments: tuple[str, ...]
    minutes: float
    quick: bool = True

    def command(self, settings: Path, out: Path, *, quick: bool) -> list[str]:
        """Return the words that follow `python -m`."""
        places = {"settings": str(settings), "out": str(out), "quick": "--quick" if quick else ""}
        program, *arguments = [argument.format(**places) for argument in self.arguments]
        return [f"simulations.benchmarks.{program}", *filter(None, arguments)]


PARTS = (
    Part("engine", "our training loop, its ceiling, and a plain loop", ("engine", "{settings}", "{out}"), 8),
    Part("loaded", "a training step beside two busy loops", ("loaded", "{settings}", "{out}", "{quick}"), 4),
    Part("startup", "from the command to the first step", ("startup", "{out}"), 1),
    Part("federation", "a federated round and a bare one", ("federation", "{settings}", "{out}"), 6),
    Part("rounds", "memory over the rounds", ("growth", "rounds", "{out}", "{quick}"), 4),
    Part("sites", "3 to 1 000 sites", ("growth", "sites", "{out}"), 10, quick=False),
    Part("images", "1 000 to 100 000 images", ("growth", "images", "{out}"), 6, quick=False),
    Part("models", "models of 10 to 400 MB", ("growth", "models", "{out}"), 4, quick=False),
    Part("inference", "fedbus predict, a bare timm loop and ONNX Runtime", ("inference", "{settings}", "{out}"), 3),
    Part("secure", "secure aggregation", ("secure", "{settings}", "{out}", "{quick}"), 1),
    Part("deployment", "hub and sites as processes", ("deployment", "{out}"), 8, quick=False),
)  # fmt: skip


def pick_parts(only: str, *, quick: bool) -> tuple[Part, ...]:
    """Return the named parts, in the order of `PARTS`; without names, all parts, or the quick ones.

    Args:
        only: Names, separated by spaces or commas.
        quick: Whether `QUICK=1` was given.

    Raises:
        SettingsError: If there is no part of a name.
    """
    names = re.split(r"[\s,]+", only.strip()) if only.strip() else []
    known = [part.name for part in PARTS]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SettingsError(f"The benchmark has no part {', '.join(unknown)}.", f"Choose from: {', '.join(known)}.")
    return tuple(part for part in PARTS if (part.name in names if names else part.quick or not quick))
