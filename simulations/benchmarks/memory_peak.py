"""Watch the peak of a memory figure while something runs."""

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

MEGABYTE = 1e6


class Peak:
    """A context manager that reads a memory figure again and again, and keeps the largest.

    Args:
        read: Returns the bytes at the moment.
        pause: Seconds between two readings.

    Attributes:
        before: Bytes at the start.
        most: Bytes at the peak.
    """

    def __init__(self, read: Callable[[], int], pause: float) -> None:
        self._read, self._pause, self._over = read, pause, threading.Event()
        self._watch = threading.Thread(target=self._poll, daemon=True)
        self.before = self.most = read()

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._watch.join()

    @property
    def megabytes(self) -> float:
        """Megabytes at the peak."""
        return self.most / MEGABYTE

    @property
    def growth_megabytes(self) -> float:
        """Megabytes from the start to the peak."""
        return (self.most - self.before) / MEGABYTE

    def look(self) -> None:
        """Compare the figure at this moment with the peak."""
        self.most = max(self.most, self._read())

    def _poll(self) -> None:
        while not self._over.wait(self._pause):
            self.look()
