"""Watch the memory of a program and of all processes that it starts."""

import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

PAUSE_SECONDS = 1.0
"""Adding up the pages of a dozen processes takes milliseconds, which the program that is watched must not feel."""


def family_memory(process: psutil.Process) -> int:
    """Return the bytes of a process and its descendants, with a page that several share counted once (Linux's PSS)."""
    total = 0
    with suppress(psutil.Error):
        for each in (process, *process.children(recursive=True)):
            with suppress(OSError, ValueError):  # it has ended, or the system has no PSS
                total += _proportional(Path(f"/proc/{each.pid}/smaps_rollup"))
    return total


def _proportional(rollup: Path) -> int:
    lines = rollup.read_text(encoding="ascii").splitlines()
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


class FamilyPeak:
    """A context manager that watches the most memory that a process and its descendants had at a time.

    Args:
        pid: The process.

    Attributes:
        most: Bytes at the peak; 0 where the system does not tell.
    """

    def __init__(self, pid: int) -> None:
        self._process, self._over = psutil.Process(pid), threading.Event()
        self._watch = threading.Thread(target=self._poll, daemon=True)
        self.most = 0

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watch.join()

    def look(self) -> None:
        """Compare the memory at this moment with the peak."""
        self.most = max(self.most, family_memory(self._process))

    def _poll(self) -> None:
        while not self._over.wait(PAUSE_SECONDS):
            self.look()
