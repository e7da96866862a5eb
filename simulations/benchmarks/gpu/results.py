"""`gpu.json`: the figures of all stages in one file, which is rewritten after every measurement.

{"part": "gpu", "created": ..., "machine": {...}, "versions": {...},   as the other parts of the benchmark
 "gpu_images_per_s": ..., "rows": [...], "workers": [...],             see `headline`
 "stages": {"speed": {"rows": [...], "finished": true}, ...}}          what each stage measured
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fedbus.system.files import read_json, write_json
from simulations.benchmarks.gpu.headline import headline

RESULTS_FILE = "gpu.json"

OUTCOME = ("error", "stopped_after_s")
"""Why a stage is not finished."""


@dataclass(frozen=True)
class Results:
    """The file. Only one process writes to it at a time.

    Attributes:
        path: Its path.
    """

    path: Path

    def read(self) -> dict[str, Any]:
        """Return what each stage measured, by name; empty before the first measurement."""
        return dict(read_json(self.path)["stages"]) if self.path.is_file() else {}

    def of(self, stage: str) -> dict[str, Any]:
        """Return what a stage measured; empty if nothing."""
        return dict(self.read().get(stage, {}))

    def add(self, stage: str, values: dict[str, Any]) -> None:
        """Add figures to a stage."""
        self._write(stage, self.of(stage) | values)

    def add_row(self, stage: str, row: dict[str, Any]) -> None:
        """Add a case to a stage, to its "rows"."""
        self.add(stage, {"rows": [*self.of(stage).get("rows", []), row]})

    def begin(self, stage: str) -> None:
        """Forget why an earlier call did not finish a stage; its figures stay."""
        self._write(stage, {key: value for key, value in self.of(stage).items() if key not in OUTCOME})

    def finished(self, stage: str) -> bool:
        """Whether all of a stage has been measured."""
        return bool(self.of(stage).get("finished"))

    def _write(self, stage: str, measured: dict[str, Any]) -> None:
        stages = self.read() | {stage: measured}
        facts = {key: stages.get("machine", {}).get(key) for key in ("machine", "versions")}
        created = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.path, {"part": "gpu", "created": created, **facts, **headline(stages), "stages": stages})
