"""The status of a deployed run: a small file in its folder, written by the run and read by `fedbus hub`."""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fedbus.errors import RunError
from fedbus.system.files import read_json, write_json
from fedbus.text import MOST_OF_A_LINE, plain_text

STATUS_FILE = "status.json"

State = Literal["starting", "waiting", "training", "evaluating", "finished", "stopped", "failed"]


@dataclass(frozen=True)
class Status:
    """The status of a run.

    Attributes:
        state: The state in one word.
        words: A short description for people: which sites it waits for, or the result of the last round.
        arm: The arm in training; empty before the first.
        seed: Its training seed.
        round: The last finished round.
        rounds: The number of rounds of an arm.
        remedy: What to do about a failure.
        updated: Time of the last change, ISO 8601 in UTC.
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
    """Write a run's status, with the present time; its words may quote what a site or a library wrote."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    words = {"words": plain_text(status.words, MOST_OF_A_LINE), "remedy": plain_text(status.remedy, MOST_OF_A_LINE)}
    write_json(out / STATUS_FILE, asdict(status) | words | {"updated": now})


def read_status(out: Path) -> Status | None:
    """Read a run's status; None if there is none.

    Raises:
        RunError: If it is damaged or was written by another version.
    """
    path = out / STATUS_FILE
    try:
        return Status(**read_json(path)) if path.is_file() else None
    except TypeError as error:
        raise RunError(
            f"{path} is not the status of a run ({error}).", "Start the run again, or delete the file."
        ) from error
