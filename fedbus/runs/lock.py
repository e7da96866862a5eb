"""The lock of a run folder: one process at a time writes to it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from fedbus.errors import RunError
from fedbus.system.files import FRAGMENT, make_private_folder
from fedbus.system.locks import hold

RUNNING = ".running"
"""In the folder of a run or a study: the lock of the process that trains."""

FOLLOWING = ".launching"
"""In the folder of a hub's run: the lock of the command that follows it."""

LOCKS = (RUNNING, FOLLOWING)


@contextmanager
def hold_folder(out: Path, check: Callable[[], object] = lambda: None, lock: str = RUNNING) -> Iterator[None]:
    """Create a folder that only its owner can enter, and hold its lock; it is deleted if it stays empty.

    Args:
        out: The folder.
        check: Raises an error if the folder can't be used. It is called before anything is written, and again once the
            lock is held, because another process may have used the folder in between.
        lock: Name of the lock's file.

    Raises:
        RunError: If another process holds the lock, or the folder can't be written.
    """
    check()
    make_private_folder(out)
    with hold(out / lock, f"{out} is in use", "Wait for the other command to end, or end it there with Ctrl-C."):
        try:
            check()
            yield
        finally:
            _delete_if_unused(out, lock)


def is_unused(out: Path) -> bool:
    """Whether a folder is missing, or has at most locks and files that a killed process has not finished."""
    try:
        return not out.exists() or all(_is_leftover(path.name) for path in out.iterdir())
    except OSError as error:
        raise RunError(
            f"{out} can't be read ({error.strerror or error}).", "Choose another --out, or check its permissions."
        ) from error


def _is_leftover(name: str) -> bool:
    return name in LOCKS or FRAGMENT.fullmatch(name) is not None


def _delete_if_unused(out: Path, lock: str) -> None:
    with suppress(OSError):
        if {path.name for path in out.iterdir()} == {lock}:
            (out / lock).unlink()
            out.rmdir()
