"""What `fedbus watch` shows of a run that only its hub knows: its status, and the sites with their connection."""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.errors import RunError
from fedbus.runs.lock import RUNNING
from fedbus.system.locks import is_held
from fedbus.watch.snapshot import REPORT_FILE, HubView, RunReader, RunState, SiteState
from server.hub.folder import SETTINGS, HubFolder, open_hub
from server.hub.registrations import read_registrations
from server.hub.run_status import STATUS_FILE, Status, read_status

ASK_SECONDS = 5.0
"""How often the SuperLink is asked which sites are connected."""

STATES: Mapping[str, RunState] = {
    "starting": "preparing", "waiting": "waiting", "training": "training", "evaluating": "scoring",
    "stopped": "interrupted", "failed": "failed",
}  # fmt: skip

ENDED = "The process of the run has ended."
RESUME = "Start the hub if it is not running, then rerun `fedbus hub run` with --resume."


def open_watched_run(out: Path) -> RunReader:
    """Open a run for the page: one of a hub also with its status and sites.

    Args:
        out: The run folder; a run of a hub is in its folder `runs`, or has a status.

    Raises:
        RunError: If the hub's folder is damaged.
    """
    out = out.resolve()
    hub = open_hub(out.parent.parent) if (out.parent.parent / SETTINGS).is_file() else None
    if hub is None and not (out / STATUS_FILE).is_file():
        return RunReader(out)
    if hub is None:
        return RunReader(out, HubReader(out, {}, lambda: None))
    from server.hub.control import node_states  # loads Flower

    return RunReader(out, HubReader(out, _nodes(hub), lambda: node_states(hub)))


@dataclass
class HubReader:
    """Describes a deployed run, each time it is called.

    Attributes:
        out: The run folder.
        nodes: Flower's numbers of the approved sites, by name.
        ask: Returns the state of every node; None if the hub does not answer.
    """

    out: Path
    nodes: Mapping[str, int]
    ask: Callable[[], Mapping[int, str] | None]
    asked: float = -ASK_SECONDS
    connections: Mapping[int, str] | None = None

    def __call__(self) -> HubView:
        """Return the present state; a file that can't be read at the moment counts as not written yet."""
        status, registrations = None, dict[str, Any]()
        with suppress(RunError):
            status = read_status(self.out)
        with suppress(RunError, AttributeError, TypeError):
            registrations = read_registrations(self.out)
        state, words, remedy = self._state(status)
        names = sorted(self.nodes.keys() | registrations.keys())
        sites = tuple(SiteState(name, self._connection(name), _images(registrations.get(name))) for name in names)
        phantoms = any(facts["phantoms"] for facts in registrations.values()) if registrations else None
        return HubView(state, words, remedy, sites, phantoms)

    def _state(self, status: Status | None) -> tuple[RunState, str, str]:
        if status is None:
            return "preparing", "", ""
        if status.state == "finished":
            return ("finished" if (self.out / REPORT_FILE).is_file() else "scoring"), status.words, ""
        if status.state in ("waiting", "training", "evaluating") and not is_held(self.out / RUNNING):
            return "interrupted", ENDED, RESUME  # it was killed, or else it would have written its end
        remedy = RESUME if status.state == "stopped" else status.remedy
        return STATES[status.state], status.words, remedy

    def _connection(self, name: str) -> str:
        if time.monotonic() - self.asked >= ASK_SECONDS:
            self.connections, self.asked = self.ask(), time.monotonic()
        return (self.connections or {}).get(self.nodes.get(name, -1), "unknown")


def _nodes(hub: HubFolder) -> dict[str, int]:
    return {name: site.node for name, site in hub.sites().items()}


def _images(registration: Mapping[str, Any] | None) -> int | None:
    return sum(sum(counts) for counts in registration["splits"].values()) if registration else None
