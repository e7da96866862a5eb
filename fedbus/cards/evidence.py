"""Pointers to evidence in a run folder: `FILE`, or `FILE#/KEY/KEY` for a value in a JSON file.

The part behind `#` is a JSON pointer (RFC 6901), in which `~1` is a slash and `~0` a tilde.
"""

from pathlib import Path
from typing import Any

from fedbus.errors import RunError
from fedbus.reports.comparison.results import RESULTS_FILE
from fedbus.system.files import read_json


def point(file: str, *keys: str) -> str:
    """Write a pointer to a file of the run folder, or to a value in it."""
    return "#".join([file, *(["".join(f"/{_escape(key)}" for key in keys)] if keys else [])])


def result(*keys: str) -> str:
    """Write a pointer to a value in `results.json`."""
    return point(RESULTS_FILE, *keys)


class Evidence:
    """The files of a run folder, each JSON file read once.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, Any] = {}

    def exists(self, pointer: str) -> bool:
        """Whether a pointer leads to a file, or to a value that is not null and not an empty list, object or text."""
        file, _, keys = pointer.partition("#")
        if not (self.folder / file).exists():
            return False
        return not keys or self.value(pointer) not in (None, "", [], {})

    def value(self, pointer: str) -> Any:
        """Return the value that a pointer into a JSON file leads to; None if there is none."""
        file, _, keys = pointer.partition("#")
        if file not in self._read:
            self._read[file] = _read(self.folder / file)
        found = self._read[file]
        for key in keys.split("/")[1:]:
            name = key.replace("~1", "/").replace("~0", "~")
            found = found.get(name) if isinstance(found, dict) else None
        return found


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except RunError:
        return None


def _escape(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
