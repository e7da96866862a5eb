"""Watch the memory of a program and of all processes that it starts."""

from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil

from simulations.benchmarks.memory_peak import Peak

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


def family_peak(pid: int) -> Peak:
    """Watch the memory of a process and its descendants; the peak is 0 where the system does not tell."""
    return Peak(partial(family_memory, psutil.Process(pid)), PAUSE_SECONDS)
