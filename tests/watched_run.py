"""Run folders as a run leaves them after some rounds, written by hand for the tests of `fedbus watch`."""

import json
from pathlib import Path
from typing import Any

from fedbus.runs.arm_files import arm_path
from fedbus.runs.folder import SETTINGS_FILE
from fedbus.settings.schema import Settings
from fedbus.system.files import write_json, write_text
from tests.tiny import tiny_settings

SITES = {name: {"reader": "busi", "path": f"/data/{name}"} for name in ("north", "south")}


def start_watched_run(out: Path, **changes: Any) -> Settings:
    """Write the settings of a run with two sites."""
    settings = tiny_settings(**{"sites": SITES, "arms": ("local", "centralised", "fedavg"), "rounds": 4} | changes)
    write_json(out / SETTINGS_FILE, settings.as_dict())
    return settings


def history_line(number: int, seconds: float = 2.0, *, federated: bool = False, **changes: Any) -> dict[str, Any]:
    """A line of a history."""
    scores = {"loss": 1 / number, "accuracy": 0.5, "macro_f1": 0.25 + number / 8, "images": 9}
    line = {"round": number, "train_loss": 2 / number, "seconds": seconds, "validation": scores, "sites": {}}
    if federated:
        line |= {"participants": ["north", "south"], "refused": {}, "site_seconds": {}, "steps": 3}
    return line | changes


def add_rounds(out: Path, settings: Settings, arm: str, lines: list[dict[str, Any]], *, seed: int = 0, site: str = ""):
    """Write an arm's history, replaced as a whole as a run does it; it is finished if it has all rounds."""
    folder = arm_path(out, settings, arm, seed) / site
    write_text(folder / "history.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    if len(lines) == settings.rounds:
        finish_arm(out, settings, arm, seed=seed)


def finish_arm(out: Path, settings: Settings, arm: str, *, seed: int = 0) -> None:
    """Write what marks an arm as finished."""
    write_json(arm_path(out, settings, arm, seed) / "done.json", {"best_round": 3, "steps": 1, "seconds": 1.0})
