"""The end of an audit log as it was last written, in a small file beside it: it shows when lines are cut off."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from fedbus.audit.entry import NO_LINE
from fedbus.system.files import write_synced

HEAD_FILE = "audit.head"

HEAD_MISSING = "head was missing"
"""The event of a log that continues without its head."""

_KEYS = {"number": int, "sha256": str, "bytes": int}

_LARGEST = 1 << 63
"""Above the numbers of any log; a forged one could have thousands of digits, and is printed."""


@dataclass(frozen=True)
class Head:
    """Where a log ends.

    Attributes:
        number: The number of its last entry; 0 for an empty log.
        sha256: The digest of that line.
        bytes: The size of the log.
    """

    number: int = 0
    sha256: str = NO_LINE
    bytes: int = 0


def write_head(folder: Path, head: Head) -> None:
    """Write the head of the log in a folder, and wait until it is on the disk.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    write_synced(folder / HEAD_FILE, json.dumps(asdict(head)).encode("ascii"))


def read_head(folder: Path) -> Head | None:
    """Read the head of the log in a folder; None if it is missing or damaged."""
    try:
        found = json.loads((folder / HEAD_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or {key: type(value) for key, value in found.items()} != _KEYS:
        return None
    return Head(**found) if all(0 <= found[key] < _LARGEST for key in ("number", "bytes")) else None
