"""Where a deployed run stands: one small file in its folder, written by the run, read by `fedbus hub`."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fedbus.errors import RunError
from fedbus.system.files import read_json, write_json

STATUS_FILE = "status.json"

RUNNING = ".running"
"""Beside it: the lock of the process that works on the run."""

State = Literal["starting", "waiting", "training", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Status:
    """What a run says of itself.

    Attributes:
        state: in one word.
        words: in a few, for people: who is awaited, how the last round went.
        arm: which training, empty before the first.
        seed: its training seed.
        round: the last finished one.
        rounds: how many there will be.
        remedy: what to do about a failure.
        updated: when it was written, ISO 8601 in UTC.
    """

    state: State
    words: str = ""
    arm: str = ""
    seed: int = 0
    round: int = 0
    rounds: int = 0
    remedy: str = ""
    updated: str = ""

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return self.state in ("finished", "stopped", "failed")


def write_status(out: Path, status: Status) -> None:
    """Write a run's status, whole."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(out / STATUS_FILE, asdict(status) | {"updated": now})


def read_status(out: Path) -> Status | None:
    """Read a run's status; None where there is none.

    Raises:
        RunError: it is damaged, or of another version.
    """
    path = out / STATUS_FILE
    try:
        return Status(**read_json(path)) if path.is_file() else None
    except TypeError as error:
        raise RunError(
            f"{path} is no status of a run ({error}).", "Start the run again, or delete the file."
        ) from error
