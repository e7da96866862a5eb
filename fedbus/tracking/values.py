"""What is tracked: figures by tag, and settings as text. Nothing here names a folder, a file or a patient."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedbus.settings.arms import TUNED
from fedbus.settings.schema import Settings

HIDDEN = {"sites", "cache", "weights", "ray_address", "track"}
"""Settings that name folders or addresses; the names of the sites and the kind of weights are tracked instead."""

SCORES = ("loss", "accuracy", "macro_f1")

OF_ROUND = {"train_loss": "train/loss", "seconds": "train/seconds", "steps": "train/steps"}
"""Tag by key of a history line."""


@dataclass(frozen=True)
class Point:
    """One figure.

    Attributes:
        training: The arm; with several seeds also the seed, such as `fedavg-seed-1`.
        tag: What the figure is, such as `validation/macro_f1`.
        step: The round.
        value: A finite number.
    """

    training: str
    tag: str
    step: int
    value: float

    @property
    def place(self) -> tuple[str, str, int]:
        """What distinguishes the point from every other of the run."""
        return self.training, self.tag, self.step


def round_figures(line: Mapping[str, Any], arm: str, settings: Settings) -> dict[str, float]:
    """Return the figures of a round by tag.

    Args:
        line: A line of the arm's history; the validation scores of the last round may be missing.
        arm: The arm's name; `ARM-tuned-SITE` for the fine-tuning of one site.
        settings: The settings of the run.
    """
    found: dict[str, Any] = {tag: line.get(key) for key, tag in OF_ROUND.items()}
    if TUNED not in arm:  # fine-tuning has rounds and a learning rate of its own
        from fedbus.training.optimiser import learning_rate  # imports PyTorch

        found["train/learning_rate"] = learning_rate(settings, line["round"] / settings.rounds)
    if "participants" in line:
        found["federation/participants"] = len(line["participants"])
        found["federation/refused"] = len(line["refused"])
    found |= {f"sites/{site}/seconds": seconds for site, seconds in line.get("site_seconds", {}).items()}
    found |= {f"sites/{site}/epsilon": spent for site, spent in line.get("epsilon", {}).items()}
    found |= {f"validation/{key}": line.get("validation", {}).get(key) for key in SCORES}
    for site, scores in line.get("sites", {}).items():
        found |= {f"sites/{site}/validation_{key}": scores.get(key) for key in SCORES}
    return _finite(found)


def final_figures(places: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return an arm's test figures by tag, with the bounds of their intervals.

    Args:
        places: An arm of `results.json`: its metrics by site, and of all sites.
    """
    found = dict[str, Any]()
    for place, metrics in places.items():
        for metric, summary in metrics.items():
            if isinstance(summary, Mapping) and "value" in summary:
                tag = f"test/{place}/{metric}"
                found |= {tag: summary["value"], f"{tag}_low": summary.get("low"), f"{tag}_high": summary.get("high")}
    return _finite(found)


def settings_texts(settings: Settings, phantoms: bool | None) -> dict[str, str]:
    """Return the settings as text by key, without paths and addresses.

    Args:
        settings: The settings of the run.
        phantoms: Whether the images are synthetic; None if that is not known yet.
    """
    values = settings.model_dump(mode="json", by_alias=True, exclude=HIDDEN)
    weights = settings.weights if settings.weights in ("imagenet", "none") else "file"
    values |= {"weights": weights, "sites": list(settings.sites)}
    if phantoms is not None:
        values["phantoms"] = phantoms
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in values.items()}


def _finite(values: Mapping[str, Any]) -> dict[str, float]:
    numbers = {tag: float(value) for tag, value in values.items() if isinstance(value, int | float)}
    return {tag: value for tag, value in numbers.items() if math.isfinite(value)}
