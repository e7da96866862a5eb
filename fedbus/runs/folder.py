"""The run folder: it explains itself, survives an interruption at any moment, and is all that resuming needs.

OUT/settings.json  environment.json  sites.json  start.json  splits/SITE.csv  results.json  report.html
OUT/subgroups/     SITE.csv: the subgroup of each image, where its dataset has attributes
OUT/arms/ARM/      history.jsonl  checkpoint.safetensors  best.safetensors  final.safetensors
                   predictions.csv  validation.csv  training.csv  done.json
                   held-out.csv where the split leaks on purpose
                   model.json  own-SITE.safetensors  seen-images.safetensors: see `fedbus.model_folder`
                   sums.json: the sums of its evaluations, under secure aggregation
OUT/keys/          SITE.key: the keys with which the sites of a simulation sign, under secure aggregation
OUT/secure-sums/   SITE.json: the secure sum that a site of a simulation takes part in
OUT/evaluations/NAME-DATE-TIME/  evaluation.json  report.html  predictions-MODEL.csv  run.json: an outside dataset
OUT/explained/     focus.json: the share of the models' maps inside lesions
"""

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from fedbus.errors import FedbusError, RunError, listed
from fedbus.runs.lock import LOCKS, RUNNING, hold_folder, is_unused
from fedbus.runs.old_names import OLD_SETTINGS_FILE
from fedbus.settings.load import build_settings
from fedbus.settings.old_keys import rename_old_keys
from fedbus.settings.schema import Settings
from fedbus.system.files import read_json, write_json

if TYPE_CHECKING:
    from fedbus.models.state import State  # imports PyTorch, which a command that only reads a run does not need

SETTINGS_FILE = "settings.json"
ENVIRONMENT_FILE = "environment.json"

START_FILE = "start.json"
"""Digests of the start weights, by seed."""

MAY_CHANGE = {
    "arms", "bootstrap", "threshold", "workers", "ray-address", "round-timeout", "quorum", "largest-share", "cache",
    "engine", "track", "subgroups",
}  # fmt: skip
"""Settings that may differ when a run is resumed: they do not affect finished arms."""


@contextmanager
def open_run(out: Path, settings: Settings, *, resume: bool, lock: str = RUNNING) -> Iterator[None]:
    """Use a run folder inside the block: no other process can use it.

    The run is recorded at once, so that `--resume` continues it whenever the process is killed. A new run that fails
    before it has written anything else, as with bad input, leaves no folder behind.

    Args:
        out: The run folder.
        settings: The settings of the run.
        resume: Whether to continue a run; otherwise the folder must be empty or missing.
        lock: Name of the lock's file in the folder.

    Raises:
        RunError: As `check_run` and `hold_folder`.
    """
    with hold_folder(out, lambda: check_run(out, settings, resume=resume), lock):
        new = not is_run(out)
        try:
            record_run(out, settings)
            yield
        except FedbusError:
            if new:
                _forget_empty_run(out)
            raise


def check_run(out: Path, settings: Settings, *, resume: bool) -> None:
    """Check that a folder can be used for a run, without writing to it.

    Raises:
        RunError: If the folder contains a run and `resume` is off; or if `resume` is on and the folder contains no run,
            or one with other settings.
    """
    if not is_run(out):
        if resume:
            raise RunError(f"{out} contains no run to resume.", "Leave out --resume, or name the folder of the run.")
        if not is_unused(out):
            raise RunError(f"{out} is not empty and contains no run.", "Choose another --out.")
        return
    if not resume:
        raise RunError(f"{out} already contains a run.", "Resume it with --resume, or choose another --out.")
    # Keys that the version that recorded the run did not have, have their defaults.
    defaults = build_settings({}, "the defaults").as_dict()
    before, now = defaults | rename_old_keys(read_json(_settings_path(out)))[0], settings.as_dict()
    changed = sorted(k for k in before.keys() | now.keys() if k not in MAY_CHANGE and before.get(k) != now.get(k))
    if changed:
        changes = [f"{k} was {before.get(k)!r} and is now {now.get(k)!r}" for k in changed]
        raise RunError(
            f"{out} was started with other settings: {listed(changes, most=12)}.",
            "Resume with the same settings, or choose another --out.",
        )


def record_run(out: Path, settings: Settings) -> None:
    """Write the settings and, for a new run, the versions, the machine and the command that started it."""
    write_json(out / SETTINGS_FILE, settings.as_dict())
    (out / OLD_SETTINGS_FILE).unlink(missing_ok=True)  # only after the new file is complete
    if not (out / ENVIRONMENT_FILE).is_file():
        from fedbus.runs.environment import describe_environment  # imports PyTorch

        unique = {"id": uuid.uuid4().hex}  # two runs can start in the same second
        write_json(out / ENVIRONMENT_FILE, describe_environment() | unique)


def _forget_empty_run(out: Path) -> None:
    """Delete what `record_run` wrote, if the folder contains nothing else."""
    if all(path.name in (SETTINGS_FILE, ENVIRONMENT_FILE) for path in out.iterdir() if path.name not in LOCKS):
        for name in (SETTINGS_FILE, ENVIRONMENT_FILE):
            (out / name).unlink(missing_ok=True)


def is_run(out: Path) -> bool:
    """Whether a run was recorded in a folder, by this version or the previous one."""
    return _settings_path(out).is_file()


def read_settings(out: Path) -> Settings:
    """Read the settings that a run was recorded with.

    Raises:
        RunError: If the file is missing or damaged.
        SettingsError: If a value is not valid.
    """
    path = _settings_path(out)
    return build_settings(read_json(path), str(path))


def _settings_path(out: Path) -> Path:
    """Path of the settings file, under its old name only if it has no other."""
    path, old = out / SETTINGS_FILE, out / OLD_SETTINGS_FILE
    return old if old.is_file() and not path.is_file() else path


def run_id(out: Path) -> str:
    """Identify a run among others in folders of the same name.

    Returns:
        16 hex digits: a digest of when, where and by which command the run was started, and of a random number.
    """
    return hashlib.sha256((out / ENVIRONMENT_FILE).read_bytes()).hexdigest()[:16]


def check_same_start(starts: "Mapping[int, State]", out: Path) -> None:
    """Check that a resumed run starts its arms from the weights that its finished arms started from.

    Weights are named by a path, and the file behind it may have been replaced since.

    Args:
        starts: Start weights by seed.
        out: Run folder, in which their digests are recorded.

    Raises:
        RunError: If the start weights differ from those recorded.
    """
    from fedbus.models.state import state_digest  # imports PyTorch

    path, digests = out / START_FILE, {str(seed): state_digest(state) for seed, state in starts.items()}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != digests:
        raise RunError(
            f"The start weights differ from those that {out} was started with.",
            "Restore the old file, or choose another --out.",
        )
    write_json(path, digests)
