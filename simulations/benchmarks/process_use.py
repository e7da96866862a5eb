"""Processor time and memory of a local federation, by what a process does."""

from dataclasses import dataclass
from pathlib import Path

import psutil

ROLES = {
    "server.hub.superlink_process": "superlink",
    "clients.site.supernode": "supernodes",
    "flwr-serverapp": "serverapp",
    " hub start ": "gateway",
    " site join ": "workers",
}
"""By a part of the command line; the first that is found. Gateway and executor are one process."""


@dataclass(frozen=True)
class Use:
    """What the processes of each role have used so far.

    Attributes:
        seconds: Processor time of all processes together, by role.
        megabytes: Resident memory of the largest process, by role.
    """

    seconds: dict[str, float]
    megabytes: dict[str, float]


def use_by_role(folder: Path) -> Use:
    """Read the use of all processes whose command line names a file in a federation's folder."""
    seconds, megabytes = dict.fromkeys(ROLES.values(), 0.0), dict.fromkeys(ROLES.values(), 0.0)
    for process in psutil.process_iter():
        try:
            command = " ".join(process.cmdline())
            role = next((role for part, role in ROLES.items() if part in command), None)
            if role is None or str(folder) not in command:
                continue
            used, size = process.cpu_times(), process.memory_info().rss / 1e6
        except psutil.Error:  # it has ended
            continue
        seconds[role] += used.user + used.system
        megabytes[role] = max(megabytes[role], size)
    return Use(seconds, megabytes)
