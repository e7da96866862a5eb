"""The run folder: it explains itself, survives a cut at any moment, and is the only thing that resuming needs.

OUT/study.json  environment.json  sites.json  start.json  splits/SITE.csv  results.json  report.html
OUT/arms/ARM/   history.jsonl  checkpoint.safetensors  best.safetensors  final.safetensors  predictions.csv  done.json
                held-out.csv, where the split leaks on purpose
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from fedbus.errors import RunError, listed
from fedbus.models.state import State, state_digest
from fedbus.runs.environment import describe_environment
from fedbus.settings.schema import Settings
from fedbus.system.files import write_json

MAY_CHANGE = {"arms", "bootstrap", "workers", "ray-address", "round-timeout", "quorum", "cache"}
"""Settings that a resumed run may change: they do not touch the arms that are finished."""

START_FILE = "start.json"
"""Digests of the weights that every arm of a seed starts from."""


def open_run(out: Path, settings: Settings, *, resume: bool) -> None:
    """Make a new run folder, or take up an old one of the same study.

    Raises:
        RunError: as `check_run`.
    """
    check_run(out, settings, resume=resume)
    record_run(out, settings)


def check_run(out: Path, settings: Settings, *, resume: bool) -> None:
    """Check that a folder may be used, and write nothing: bad input found later must leave no run behind.

    Raises:
        RunError: the folder holds a run and `resume` is off; or it is on, and there is none or one with other settings.
    """
    path = out / "study.json"
    if not path.is_file():
        if resume:
            raise RunError(f"{out} holds no run to resume.", "Leave out --resume, or name the folder of the run.")
        if out.exists() and any(out.iterdir()):
            raise RunError(f"{out} is not empty and holds no run.", "Choose another --out.")
        return
    if not resume:
        raise RunError(f"{out} already holds a run.", "Go on with it by --resume, or choose another --out.")
    try:
        before, now = dict(json.loads(path.read_text(encoding="utf-8"))), settings.as_dict()
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}).", "Choose another --out.") from error
    changed = sorted(k for k in before.keys() | now.keys() if k not in MAY_CHANGE and before.get(k) != now.get(k))
    if changed:
        said = [f"{k} was {before.get(k)!r} and is now {now.get(k)!r}" for k in changed]
        raise RunError(
            f"{out} was started with other settings: {listed(said)}.",
            "Resume with the same settings, or choose another --out.",
        )


def record_run(out: Path, settings: Settings) -> None:
    """Write the settings, and for a new run the versions, the machine and the command that started it."""
    write_json(out / "study.json", settings.as_dict())
    if not (out / "environment.json").is_file():
        write_json(out / "environment.json", describe_environment())


def run_id(out: Path) -> str:
    """What tells a run from another in a folder of that name: 16 hex digits, a digest of when and how it began."""
    return hashlib.sha256((out / "environment.json").read_bytes()).hexdigest()[:16]


def check_same_start(starts: Mapping[int, State], out: Path) -> None:
    """All arms start from the same weights, also those that a resumed run adds; a file may have been replaced since.

    Args:
        starts: the start weights by seed.
        out: the run folder; their digests are kept in it.

    Raises:
        RunError: the start weights are not those that the run began with.
    """
    path, digests = out / START_FILE, {str(seed): state_digest(state) for seed, state in starts.items()}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != digests:
        raise RunError(
            f"The start weights are no longer those that {out} began with.",
            "Bring the old file back, or choose another --out.",
        )
    write_json(path, digests)
