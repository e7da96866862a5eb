"""A lock file that one process at a time can hold, and that is free again however that process ends."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from filelock import lock_descriptor

from fedbus.errors import RunError

TRIES, PAUSE_SECONDS = 5, 0.05
"""`is_held` takes the lock for a moment; a process that finds it taken just then tries again."""

_OWNER_REMEDY = "Run as the user who owns the folder."


@contextmanager
def hold(path: Path, taken: str, remedy: str) -> Iterator[None]:
    """Hold a lock; the operating system releases it when this process ends.

    Args:
        path: The lock file, created if missing.
        taken: The problem if another process holds the lock; that process's number is added.
        remedy: What to do in that case.

    Raises:
        RunError: If another process holds the lock, or the file can't be written.
    """
    try:
        file = path.open("a+b")
    except OSError as error:
        raise RunError(f"{path.parent} can't be written ({error.strerror or error}).", _OWNER_REMEDY) from error
    with file:
        if not try_lock(file):
            raise RunError(f"{taken}, by process {_read_holder(file)}.", remedy)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Return whether a process holds the lock; nothing is created or written.

    Raises:
        RunError: If the lock file can't be read.
    """
    mode = "r+b" if os.access(path, os.W_OK) else "rb"  # network file systems lock only files opened for writing
    try:
        with path.open(mode) as file:
            return not try_lock(file)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror or error}).", _OWNER_REMEDY) from error


def try_lock(file: IO[bytes]) -> bool:
    """Lock an open file until it is closed; return False if another process keeps the lock."""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        if lock_descriptor(file.fileno(), blocking=False):
            return True
    return False


def _read_holder(file: IO[bytes]) -> str:
    with suppress(OSError):  # Windows does not let others read a locked file
        file.seek(0)
        return file.read().decode("ascii", "replace")
    return "(unknown)"
