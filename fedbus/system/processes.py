"""Child processes that end with their parent, however it ends."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from fedbus.errors import RunError
from fedbus.text import plain_text

SET_PARENT_DEATH_SIGNAL = 1
"""PR_SET_PDEATHSIG of Linux, prctl(2): the signal that a process gets when its parent ends."""

END_TIMEOUT_SECONDS = 10.0
"""How long a child has to end after each signal."""


def environment_with(settings: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment plus `settings`; programs installed beside this Python are found first."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return os.environ | {"PATH": programs} | dict(settings)


def start_child(
    command: Sequence[str], log: Path, settings: Mapping[str, str] | None = None, pass_fds: Sequence[int] = ()
) -> subprocess.Popen[bytes]:
    """Start a program of this environment, its output appended to a log file.

    On Linux the child ends when this process does, even by SIGKILL; elsewhere only `end_child` ends it.

    Args:
        command: The program and its arguments.
        log: The file for its output.
        settings: Environment variables in addition to those of this process.
        pass_fds: File descriptors that the child inherits, besides its output.

    Raises:
        RunError: If the program is missing or the log can't be written.
    """
    try:
        with log.open("ab") as output:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment_with(settings or {}),
                start_new_session=True, pass_fds=pass_fds,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )  # fmt: skip
    except OSError as error:
        raise RunError(f"{command[0]} can't be started ({error}).", "Reinstall FedBUS: make setup.") from error


def end_child(child: subprocess.Popen[bytes]) -> None:
    """End a child and the processes that it started, by SIGTERM and then SIGKILL; none is running afterwards."""
    for request in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(child.pid, request)
        with suppress(subprocess.TimeoutExpired):
            child.wait(END_TIMEOUT_SECONDS)
    deadline = time.monotonic() + END_TIMEOUT_SECONDS
    while _is_running(child.pid) and time.monotonic() < deadline:  # releasing a lot of memory takes a while
        time.sleep(0.05)


def _is_running(group: int) -> bool:
    """Return whether a process of the group is running; zombies are not."""
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def log_tail(log: Path, lines: int = 5) -> str:
    """Return the last lines of a log for an error message."""
    if not log.is_file():
        return "it printed nothing"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 4096))
        printed = [line.strip() for line in file.read().decode("utf-8", "replace").splitlines() if line.strip()]
    return " / ".join(plain_text(line) for line in printed[-lines:]) or "it printed nothing"


def _end_with_parent() -> None:
    ctypes.CDLL(None).prctl(SET_PARENT_DEATH_SIGNAL, signal.SIGTERM)
