"""What the trainings on the other machine return: predictions, histories and seconds, as one compressed JSON file."""

import gzip
import json
import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from fedbus.device import pick_device, pick_dtype, processor_facts
from fedbus.errors import RunError
from fedbus.evaluation.predictions import Predictions
from fedbus.system.files import write_whole
from simulations.arm import Arm

Training = tuple[int, str, int]
"""Fold, arm and seed."""


@dataclass
class PackedResults:
    """The finished trainings of a packed study.

    Attributes:
        study: Settings of the study, to recognise results of another one.
        machine: Device, precision and versions.
        trainings: One entry per finished training: "fold", "arm", "seed", "facts" (as in done.json), "history", and
            "predictions" by site: "rows", "labels" and "probabilities".
    """

    study: dict[str, Any]
    machine: dict[str, Any]
    trainings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def finished(self) -> set[Training]:
        """The finished trainings."""
        return {(entry["fold"], entry["arm"], entry["seed"]) for entry in self.trainings}

    def add(self, fold: int, arm: Arm, predictions: Predictions) -> None:
        """Add a finished training."""
        by_site = {}
        for site in dict.fromkeys(predictions.sites.tolist()):
            rows = predictions.select(site)
            by_site[site] = {
                "rows": rows.paths.astype(int).tolist(),
                "labels": rows.labels.tolist(),
                "probabilities": rows.probabilities.tolist(),
            }
        facts, history = arm.folder.read_facts(), arm.folder.read_history()
        entry = {"fold": fold, "arm": arm.name, "seed": arm.seed, "facts": facts, "history": history}
        self.trainings.append(entry | {"predictions": by_site})

    def save(self, path: Path) -> None:
        """Write the file."""
        content = json.dumps(vars(self), allow_nan=False).encode()
        write_whole(path, lambda temporary: temporary.write_bytes(gzip.compress(content, mtime=0)))

    @classmethod
    def load(cls, path: Path) -> "PackedResults":
        """Read the file.

        Raises:
            RunError: If it is missing or damaged.
        """
        try:
            return cls(**json.loads(gzip.decompress(path.read_bytes())))
        except (OSError, EOFError, ValueError, TypeError) as error:
            raise RunError(f"{path} has no results of a packed study ({error}).", "Copy it again.") from error


def describe_machine(device_setting: str, precision: str) -> dict[str, Any]:
    """Describe device, precision and versions."""
    device = pick_device(device_setting)
    return {
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "cpu": str(processor_facts().get("cpu_name") or platform.machine()),
        "precision": str(pick_dtype(precision, device)).removeprefix("torch."),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
    }
