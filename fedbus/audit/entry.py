"""One line of an audit log: canonical JSON with the digest of the line before."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

NO_LINE = "0" * 64
"""In place of the digest of the line before the first one."""

_KEYS = {"number": int, "time": str, "event": str, "details": dict, "previous": str}


@dataclass(frozen=True)
class Entry:
    """One event.

    Attributes:
        number: 1 for the first entry of a log, then one more each time.
        time: When it was recorded, ISO 8601 in UTC.
        event: What happened, in a few words.
        details: Names, numbers and digests; never the name of an image or a patient.
        previous: SHA-256 of the line before, hexadecimal; `NO_LINE` in the first entry.
    """

    number: int
    time: str
    event: str
    details: Mapping[str, Any]
    previous: str

    @classmethod
    def now(cls, number: int, previous: str, event: str, details: Mapping[str, Any]) -> Self:
        """Make the entry of an event that happens now."""
        return cls(number, datetime.now(UTC).isoformat(timespec="seconds"), event, details, previous)

    def to_line(self) -> bytes:
        """Return the line without its line break: JSON with sorted keys, without spaces, in ASCII."""
        return json.dumps(vars(self), sort_keys=True, separators=(",", ":"), allow_nan=False).encode("ascii")

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """Read a line.

        Raises:
            ValueError: If it is not exactly what `to_line` returns for an entry.
        """
        try:
            found = json.loads(line)
        except (ValueError, RecursionError) as error:  # a UnicodeDecodeError is a ValueError
            raise ValueError("it is not JSON") from error
        if not isinstance(found, dict) or {key: type(value) for key, value in found.items()} != _KEYS:
            raise ValueError(f"it has other keys than {', '.join(sorted(_KEYS))}")
        entry = cls(**found)
        if entry.to_line() != line:
            raise ValueError("it is written in another form")
        return entry


def digest_of(line: bytes) -> str:
    """Return the SHA-256 of a line without its line break, which `sha256sum` shows too."""
    return hashlib.sha256(line).hexdigest()
