"""The run folder: it explains itself, survives a cut at any moment, and is the only thing that resuming needs.

OUT/study.json  environment.json  sites.json  start.json  splits/SITE.csv  results.json  report.html
OUT/arms/ARM/   history.jsonl  checkpoint.safetensors  best.safetensors  final.safetensors  predictions.csv  done.json
                held-out.csv, where the split leaks on purpose
"""

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedbus.device import processor_facts
from fedbus.errors import RunError, listed
from fedbus.files import write_json, write_text, write_whole
from fedbus.models import State, state_digest
from fedbus.study import Study

MAY_CHANGE = {"arms", "bootstrap", "workers", "ray-address", "round-timeout", "quorum", "cache"}
"""Settings that a resumed run may change: they do not touch the arms that are finished."""

START_FILE = "start.json"
"""Digests of the weights that every arm of a seed starts from."""

PACKAGES = (
    "fedbus", "flwr", "ray", "torch", "torchvision", "timm",
    "imbalanced-learn", "scikit-learn", "numpy", "pillow", "imagehash",
)  # fmt: skip


def open_run(out: Path, study: Study, *, resume: bool) -> None:
    """Make a new run folder, or take up an old one of the same study.

    Raises:
        RunError: as `check_run`.
    """
    check_run(out, study, resume=resume)
    record_run(out, study)


def check_run(out: Path, study: Study, *, resume: bool) -> None:
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
        before, now = dict(json.loads(path.read_text(encoding="utf-8"))), study.as_dict()
    except (OSError, TypeError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}).", "Choose another --out.") from error
    changed = sorted(k for k in before.keys() | now.keys() if k not in MAY_CHANGE and before.get(k) != now.get(k))
    if changed:
        said = [f"{k} was {before.get(k)!r} and is now {now.get(k)!r}" for k in changed]
        raise RunError(
            f"{out} was started with other settings: {listed(said)}.",
            "Resume with the same settings, or choose another --out.",
        )


def record_run(out: Path, study: Study) -> None:
    """Write the settings, and for a new run the versions, the machine and the command that started it."""
    write_json(out / "study.json", study.as_dict())
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


def describe_environment() -> dict[str, Any]:
    """Versions, machine and command, for the report."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(_without_folder(word) for word in sys.argv),
        "versions": {"python": platform.python_version()} | {name: metadata.version(name) for name in PACKAGES},
        "machine": {
            "cpu": _processor(),
            "cores": os.cpu_count(),
            "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
            "gpu": gpu,
        },
    }


def _without_folder(word: str) -> str:
    """`--site=busi=/ward/7/BUSI` without its folders: reports are passed on."""
    before, equals, path = word.rpartition("=")
    return f"{before}{equals}{Path(path).name}" if "/" in path else word


def _processor() -> str:
    return str(processor_facts().get("cpu_name") or platform.processor() or platform.machine())


@dataclass
class Checkpoint:
    """Where an arm stands after a round.

    Attributes:
        round: the last finished one, 0 before the first.
        state: the model.
        history: one dict a round.
        best_round: the round with the best validation score so far, None before any.
        best_rank: its `Score.rank`.
        extra: further tensors that the next round needs: optimiser or strategy state.
    """

    round: int
    state: State
    history: list[dict[str, Any]] = field(default_factory=list)
    best_round: int | None = None
    best_rank: tuple[float, float] = (-1.0, 0.0)
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ArmFolder:
    """The files of one arm and one seed."""

    path: Path

    @property
    def finished(self) -> bool:
        """Whether the arm ran to its end."""
        return (self.path / "done.json").is_file()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint in one file, so that its parts can't disagree, and the history beside it for people."""
        notes = {
            "round": str(checkpoint.round),
            "history": json.dumps(checkpoint.history),
            "best_round": json.dumps(checkpoint.best_round),
            "best_rank": json.dumps(checkpoint.best_rank),
        }
        tensors = {f"model/{k}": v for k, v in checkpoint.state.items()}
        tensors |= {f"extra/{k}": v for k, v in checkpoint.extra.items()}
        write_whole(self.path / "checkpoint.safetensors", lambda temporary: save_file(tensors, temporary, notes))
        self.write_history(checkpoint.history)

    def load(self) -> Checkpoint | None:
        """Read the checkpoint back, None if there is none yet.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / "checkpoint.safetensors"
        if not path.is_file():
            return None
        tensors, notes = self._read(path)
        try:
            return Checkpoint(
                round=int(notes["round"]),
                state={k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")},
                history=json.loads(notes["history"]),
                best_round=json.loads(notes["best_round"]),
                best_rank=tuple(json.loads(notes["best_rank"])),
                extra={k.removeprefix("extra/"): v for k, v in tensors.items() if k.startswith("extra/")},
            )
        except (KeyError, ValueError) as error:
            raise self._damaged(path, error) from error

    def save_weights(self, which: str, state: State, **notes: str | int) -> None:
        """Write `best.safetensors` or `final.safetensors`."""
        text = {key: str(value) for key, value in notes.items()}
        write_whole(self.path / f"{which}.safetensors", lambda temporary: save_file(state, temporary, text))

    def load_weights(self, which: str) -> State:
        """Read weights written by `save_weights`.

        Raises:
            RunError: the file is missing or damaged.
        """
        return self._read(self.path / f"{which}.safetensors")[0]

    def _read(self, path: Path) -> tuple[State, dict[str, str]]:
        try:
            with safe_open(path, framework="pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a dict
                return tensors, file.metadata() or {}
        except (SafetensorError, OSError) as error:
            raise self._damaged(path, error) from error

    def _damaged(self, path: Path, error: Exception) -> RunError:
        return RunError(f"{path} is missing or damaged ({error}).", f"Delete {self.path} to run this arm again.")

    def write_history(self, history: list[dict[str, Any]]) -> None:
        """One JSON line a round."""
        write_text(self.path / "history.jsonl", "".join(json.dumps(line) + "\n" for line in history))

    def read_history(self) -> list[dict[str, Any]]:
        """The lines of `history.jsonl`; empty where there is none."""
        path = self.path / "history.jsonl"
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []

    def finish(self, facts: dict[str, Any]) -> None:
        """Mark the arm as finished, last of all; the checkpoint is no longer needed for anything but a look."""
        write_json(self.path / "done.json", facts)

    def read_facts(self) -> dict[str, Any]:
        """What `finish` was given."""
        facts: dict[str, Any] = json.loads((self.path / "done.json").read_text(encoding="utf-8"))
        return facts


def arm_folder(out: Path, study: Study, arm: str, seed: int) -> ArmFolder:
    """`OUT/arms/ARM`, and one folder a seed in it where the study has several."""
    path = out / "arms" / arm
    return ArmFolder(path if len(study.seeds) == 1 else path / f"seed-{seed}")
