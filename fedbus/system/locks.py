"""A folder that one process at a time may use, free again whatever ends that process."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom
from pathlib import Path

from fedbus.errors import RunError

TRIES, PAUSE_SECONDS = 5, 0.1
"""`is_held` takes the lock for a moment; somebody who wants it just then tries again."""

NOT_YOURS = "Run as the user to whom the folder belongs."


@contextmanager
def hold(path: Path, taken: str, remedy: str) -> Iterator[None]:
    """Hold a lock; the system lets go of it when this process ends.

    Windows has no such lock, and none is taken there.

    Args:
        path: of the lock's file, which is made.
        taken: what is wrong if another process holds it; its number is added.
        remedy: what to do then.

    Raises:
        RunError: another process holds it, or the file can't be written.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        file = path.open("a+b")
    except OSError as error:
        raise RunError(f"{path.parent} can't be written ({error.strerror or error}).", NOT_YOURS) from error
    with file:
        _take(file, taken, remedy)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Whether a process holds the lock.

    Raises:
        RunError: its file can't be read.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise RunError(f"{path} can't be read ({error.strerror or error}).", NOT_YOURS) from error
    return False


def _take(file: BufferedRandom, taken: str, remedy: str) -> None:
    import fcntl

    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(PAUSE_SECONDS)
    file.seek(0)
    raise RunError(f"{taken}, by process {file.read().decode('ascii', 'replace')}.", remedy)
