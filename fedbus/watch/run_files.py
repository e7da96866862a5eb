"""Reads the small files of a run while another process replaces them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

Version = tuple[int, int, int]
"""Time, size and inode of a file: a replaced file is another file, even within one tick of the clock."""


class RunFiles:
    """Files that are read again only when they have changed.

    Files of a run are replaced whole, but network file systems can show them cut off: then the last content that was
    complete is used.

    Attributes:
        damaged: The files that could not be read the last time.
    """

    def __init__(self) -> None:
        self.known: dict[Path, tuple[Version, Any]] = {}
        self.damaged: set[Path] = set()

    def read(self, path: Path, parse: Callable[[str], Any]) -> Any:
        """Return what `parse` makes of a file's text; None if the file is missing, or was never complete."""
        self.damaged.discard(path)
        try:
            found = path.stat()
            version = found.st_mtime_ns, found.st_size, found.st_ino
            if path not in self.known or self.known[path][0] != version:
                self.known[path] = version, parse(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.known.pop(path, None)
        except (OSError, ValueError):  # ValueError: not UTF-8, or cut off
            self.damaged.add(path)
        return self.known[path][1] if path in self.known else None
