"""The files of one arm: checkpoint, weights, history, and the facts recorded at the end."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.runs.arm_files import DONE_FILE, HISTORY_FILE, arm_path
from fedbus.runs.old_names import rename_old_facts
from fedbus.system.files import write_json, write_text, write_whole

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


@dataclass
class Checkpoint:
    """State of an arm after a round: all that the next round needs.

    Attributes:
        round: Last finished round, 0 before the first.
        state: Model after that round.
        history: One dict per finished round.
        best_round: Round with the best validation score so far, None before any was scored.
        best_loss: `selection_loss` of that round.
        extra: Further tensors, such as the state of an optimiser or of a strategy.
    """

    round: int
    state: State
    history: list[dict[str, Any]] = field(default_factory=list)
    best_round: int | None = None
    best_loss: float = math.inf
    extra: dict[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class ArmFolder:
    """The files of one arm and one seed.

    Attributes:
        path: Folder of the arm; need not exist yet.
    """

    path: Path

    @property
    def finished(self) -> bool:
        """Whether the arm was trained to its end."""
        return (self.path / DONE_FILE).is_file()

    def save(self, checkpoint: Checkpoint) -> None:
        """Write the checkpoint to a single file, so that its parts always belong to the same round.

        The history is also written as a text file, for people.
        """
        notes = {
            "round": str(checkpoint.round),
            "history": json.dumps(checkpoint.history),
            "best_round": json.dumps(checkpoint.best_round),
            "best_loss": json.dumps(checkpoint.best_loss),
        }
        tensors = {f"model/{k}": v for k, v in checkpoint.state.items()}
        tensors |= {f"extra/{k}": v for k, v in checkpoint.extra.items()}
        write_whole(self.path / "checkpoint.safetensors", lambda temporary: save_file(tensors, temporary, notes))
        self.write_history(checkpoint.history)

    def load(self) -> Checkpoint | None:
        """Read the checkpoint.

        Returns:
            The checkpoint, or None if none has been written.

        Raises:
            RunError: If the file is damaged.
        """
        path = self.path / "checkpoint.safetensors"
        if not path.is_file():
            return None
        tensors, notes = self._read(path)
        if "best_rank" in notes:
            raise RunError(
                f"{path} was made by an earlier version, which chose the best round by another rule.",
                f"Finish it with that version, or delete {self.path} to run this arm again.",
            )
        try:
            return Checkpoint(
                round=int(notes["round"]),
                state={k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")},
                history=json.loads(notes["history"]),
                best_round=json.loads(notes["best_round"]),
                best_loss=json.loads(notes["best_loss"]),
                extra={k.removeprefix("extra/"): v for k, v in tensors.items() if k.startswith("extra/")},
            )
        except (KeyError, ValueError) as error:
            raise self._damaged(path, error) from error

    def save_weights(self, which: str, state: State, **notes: str | int) -> None:
        """Write `WHICH.safetensors` (`best` or `final`), with notes in its header."""
        text = {key: str(value) for key, value in notes.items()}
        write_whole(self.path / f"{which}.safetensors", lambda temporary: save_file(state, temporary, text))

    def load_weights(self, which: str) -> State:
        """Read weights written by `save_weights`.

        Raises:
            RunError: If the file is missing or damaged.
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
        """Write `history.jsonl`, one line per round."""
        write_text(self.path / HISTORY_FILE, "".join(json.dumps(line) + "\n" for line in history))

    def read_history(self) -> list[dict[str, Any]]:
        """Read `history.jsonl`; empty if the file does not exist."""
        path = self.path / HISTORY_FILE
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []

    def finish(self, facts: dict[str, Any]) -> None:
        """Mark the arm as finished by writing `done.json`; call this after everything else has been written."""
        write_json(self.path / DONE_FILE, facts)

    def read_facts(self) -> dict[str, Any]:
        """Read what `finish` was called with."""
        return rename_old_facts(json.loads((self.path / DONE_FILE).read_text(encoding="utf-8")))


def arm_folder(out: Path, settings: "Settings", arm: str, seed: int) -> ArmFolder:
    """Open the folder of an arm and a seed, see `arm_path`."""
    return ArmFolder(arm_path(out, settings, arm, seed))
