"""`bench.json`: what each part measured, when and on which machine, and the figures computed from that.

{"quick": false, "settings": {...},
 "figures": {"engine_over_ceiling": 0.976, ...},       null where a part is missing
 "parts": {"engine": {...}, ...},                      what each part wrote
 "runs": {"engine": {"run": ..., "created": ..., "seconds": ..., "other_share": ..., ...}, ...},
 "missing": {"engine": "failed (...)"}}
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedbus.errors import RunError
from fedbus.system.files import read_json, write_json
from simulations.benchmarks.summary import figures

Facts = dict[str, Any]


@dataclass
class Results:
    """The content of a `bench.json`.

    Attributes:
        quick: Whether the parts were measured with smaller images and fewer rounds.
        settings: The settings of the parts that train.
        parts: What each part measured, by name.
        runs: When, how long and beside how much other work each part ran; parts with the same `run` were measured
            by one command, one after another.
        missing: Why the last try of a part failed.
    """

    quick: bool
    settings: Facts
    parts: dict[str, Facts] = field(default_factory=dict)
    runs: dict[str, Facts] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    @property
    def figures(self) -> dict[str, float | None]:
        """All figures; None where a part is missing."""
        return figures(self.parts, {name: facts["run"] for name, facts in self.runs.items()})

    def take(self, name: str, measured: Facts, run: Facts) -> None:
        """Add a part, or replace what an earlier run measured."""
        self.missing.pop(name, None)
        self.parts[name], self.runs[name] = measured, run

    def lose(self, name: str, why: str) -> None:
        """Note that a part failed; an old measurement would not show that, so it is dropped."""
        self.parts.pop(name, None)
        self.runs.pop(name, None)
        self.missing[name] = why

    def as_dict(self) -> Facts:
        """Return the file's content."""
        return {
            "quick": self.quick,
            "settings": self.settings,
            "figures": self.figures,
            "parts": self.parts,
            "runs": self.runs,
            "missing": self.missing,
        }

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all.

        Raises:
            RunError: If it can't be written.
        """
        write_json(path, self.as_dict())


def read_results(path: Path) -> Results:
    """Read a `bench.json`.

    Raises:
        RunError: If it is missing, damaged or of an earlier version.
    """
    content: Mapping[str, Any] = read_json(path)
    try:
        return Results(
            bool(content["quick"]), content["settings"], content["parts"], content["runs"], content["missing"]
        )
    except KeyError as error:
        raise RunError(
            f"{path} has no {error.args[0]}: it is not the bench.json of this version.",
            "Delete it or choose another folder, then run the benchmark again.",
        ) from None
