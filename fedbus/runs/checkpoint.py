"""The files of one arm: checkpoints, weights and history."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.settings.schema import Settings
from fedbus.system.files import write_json, write_text, write_whole


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


def arm_folder(out: Path, settings: Settings, arm: str, seed: int) -> ArmFolder:
    """`OUT/arms/ARM`, and one folder a seed in it where the study has several."""
    path = out / "arms" / arm
    return ArmFolder(path if len(settings.seeds) == 1 else path / f"seed-{seed}")
