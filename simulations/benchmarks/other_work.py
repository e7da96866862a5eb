"""Watch how busy other processes keep the machine while a part of the benchmark runs."""

import os
import threading
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import Any

import psutil

MARK = "FEDBUS_BENCHMARK_PART"
"""An environment variable of the part, which its processes inherit, Ray's and a deployment's daemons included."""

INTERVAL_SECONDS = 1.0
"""Time between two looks at the processes; what a process computes after the last one counts as other work."""

QUIET_SHARE = 0.05
"""The most processor time of other programs, as a share of all, on what counts as a quiet machine."""


class OtherWork:
    """Compares what all processors did with what the part's processes did, between entry and exit.

    Args:
        mark: The value of `MARK` in the environment of the part's processes.

    Attributes:
        facts: After the exit: the share of all processors' time that other processes used, in [0, 1], and the load
            averages of one minute at entry and exit.
    """

    def __init__(self, mark: str) -> None:
        self.facts: dict[str, Any] = {}
        self._mark = mark
        self._own: dict[tuple[int, float], float] = {}
        self._earlier = frozenset(psutil.pids())
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "OtherWork":
        self._load, self._started, self._self = os.getloadavg()[0], psutil.cpu_times(), _spent(psutil.Process())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end.set()
        self._thread.join()
        own = sum(self._own.values()) + _spent(psutil.Process()) - self._self
        self.facts = {
            "other_share": other_share(self._started._asdict(), psutil.cpu_times()._asdict(), own),
            "load_average": [round(self._load, 2), round(os.getloadavg()[0], 2)],
        }

    def _watch(self) -> None:
        while not self._end.wait(INTERVAL_SECONDS):
            self.look()

    def look(self) -> None:
        """Read the processor time of the part's processes; of one that has ended, the last value is kept."""
        for number in psutil.pids():
            if number in self._earlier:
                continue
            with suppress(psutil.Error, OSError):  # it ended, or belongs to someone else
                process = psutil.Process(number)
                if process.environ().get(MARK) == self._mark:
                    self._own[number, process.create_time()] = _spent(process)


def _spent(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def other_share(before: Mapping[str, float], after: Mapping[str, float], own: float) -> float:
    """Return the share of the processors' time that was busy with other work.

    Args:
        before: Seconds of all processors by state at the start, as of `psutil.cpu_times`.
        after: The same at the end.
        own: Seconds that the measured processes used.
    """
    idle = ("idle", "iowait", "guest", "guest_nice")  # a guest's time is in user and nice, too
    spent = {name: after[name] - before[name] for name in after}
    busy = sum(seconds for name, seconds in spent.items() if name not in idle)
    whole = busy + spent["idle"] + spent.get("iowait", 0.0)
    return round(max(0.0, busy - own) / whole, 3) if whole > 0 else 0.0
