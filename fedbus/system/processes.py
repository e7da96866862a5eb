"""Child processes that end with their parent, whatever ends it."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import psutil

from fedbus.errors import RunError

SET_PARENT_DEATH_SIGNAL = 1
"""Linux, prctl(2): a signal for this process when its parent is gone."""

PATIENCE_SECONDS = 10.0


def environment_with(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment and further variables; programs installed beside this Python come first."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": programs} | dict(settings)


def start_child(
    command: Sequence[str], log: Path, settings: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start a program of this environment, its output appended to a log file.

    On Linux it ends when this process does, even by SIGKILL; elsewhere when this process ends it.

    Args:
        command: the program and its arguments.
        log: of its output.
        settings: environment variables on top of this process's own.

    Raises:
        RunError: there is no such program, or the log can't be written.
    """
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment_with(settings or {}),
                start_new_session=True, preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
    except OSError as error:
        raise RunError(f"{command[0]} can't be started ({error}).", "Install FedBUS again: make setup.") from error


def end_child(child: subprocess.Popen[bytes]) -> None:
    """Ask a child and those it started to end, then make them; when this returns none of them runs."""
    for request in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, request)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE_SECONDS)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while _runs(child.pid) and time.monotonic() < deadline:  # a killed process with much memory takes a while to go
        time.sleep(0.05)


def _runs(group: int) -> bool:
    """Whether a process of the group still runs; one that has ended and that nobody has waited for does not."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


@contextmanager
def stops_on_signals(stop: threading.Event) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM set an event; the second time they interrupt what does not look at it."""

    def end(signum: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def last_words(log: Path, lines: int = 5) -> str:
    """The end of a log, for an error message."""
    if not log.is_file():
        return "it said nothing"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        said = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(said[-lines:]) or "it said nothing"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
