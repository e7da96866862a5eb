"""One process at a time takes part as a site: its key can't be used twice."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedRandom

from clients.folder import SiteFolder
from fedbus.errors import RunError

JOINED = ".joined"
TRIES, PAUSE_SECONDS = 5, 0.1
"""`is_held` takes the lock for a moment; somebody who joins just then tries again."""


@contextmanager
def hold(site: SiteFolder) -> Iterator[None]:
    """Hold the site's lock; the system lets go of it when this process ends, whatever ends it.

    Windows has no such lock, and none is taken there.

    Raises:
        RunError: another process holds it, or the folder can't be written.
    """
    if sys.platform == "win32":
        yield
        return
    try:
        file = (site.path / JOINED).open("a+b")
    except OSError as error:
        raise RunError(
            f"{site.path} can't be written ({error.strerror or error}).",
            "Run as the user to whom the folder belongs.",
        ) from error
    with file:
        _take(file, site)
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def is_held(site: SiteFolder) -> bool:
    """Whether a process holds the site's lock, so that its key is in use.

    Raises:
        RunError: the lock's file can't be read.
    """
    if sys.platform == "win32":
        return False
    import fcntl

    try:
        with (site.path / JOINED).open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    except OSError as error:
        raise RunError(
            f"{site.path / JOINED} can't be read ({error.strerror or error}).",
            "Run as the user to whom the folder belongs.",
        ) from error
    return False


def _take(file: BufferedRandom, site: SiteFolder) -> None:
    import fcntl

    for _ in range(TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            time.sleep(PAUSE_SECONDS)
    file.seek(0)
    holder = file.read().decode("ascii", "replace")
    raise RunError(
        f"{site.settings.name} is joined already, by process {holder}.",
        "End that one with Ctrl-C there, or let it work.",
    )
