"""Notice that a run which `fedbus hub run` follows has died: its process, the SuperLink or the gateway."""

import socket
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fedbus.errors import RunError
from fedbus.runs.lock import RUNNING
from fedbus.system.locks import is_held
from server.hub.control import GONE, run_state
from server.hub.folder import HubFolder
from server.hub.run_status import STATUS_FILE, read_status
from server.hub.superlink import is_up

CHECK_SECONDS = 3.0
"""How often to check that the hub is running: a run that died with its hub can't write that into its status."""

REFUSALS = 3
"""After this many checks in a row in which the hub refuses connections, it is gone."""

SILENCE_SECONDS = 30.0
"""While the run's process has not begun to train: after this time without a new status, Flower is asked about it."""

REMEDY = "Start the hub, then rerun with --resume; finished rounds are kept."


class RunWatch:
    """Watches one run. A hub that answers slowly is busy, not gone.

    Args:
        hub: The hub's folder.
        run: Flower's number of the run.
        out: The run folder.
        log: Called with a line of text when the hub is slow to answer.
    """

    def __init__(self, hub: HubFolder, run: str, out: Path, log: Callable[[str], object]) -> None:
        self.hub, self.run, self.out, self.log = hub, run, out, log
        self.checked = self.changed = time.monotonic()  # the system's clock may be set while a run is followed
        self.written, self.refusals, self.trained = 0, 0, False

    def check(self) -> None:
        """Check every few seconds that the run still exists.

        Raises:
            RunError: If the hub has ended, or Flower has ended the run.
        """
        if time.monotonic() - self.checked < CHECK_SECONDS:
            return
        self._check_hub()
        trains = is_held(self.out / RUNNING)
        if not trains and (self.trained or self._is_silent()):
            self._ask_flower()
        self.trained = self.trained or trains
        self.checked = time.monotonic()

    def _check_hub(self) -> None:
        """Count refused connections; one alone may be a hub that is overloaded."""
        self.refusals = 0 if is_up(self.hub) and gateway_accepts(self.hub) else self.refusals + 1
        if self.refusals >= REFUSALS:
            raise RunError("The hub ended during the run.", REMEDY)

    def _is_silent(self) -> bool:
        with suppress(OSError):  # it is being replaced
            written = (self.out / STATUS_FILE).stat().st_mtime_ns
            if written != self.written:
                self.written, self.changed = written, time.monotonic()
        return time.monotonic() - self.changed >= SILENCE_SECONDS

    def _ask_flower(self) -> None:
        state = run_state(self.hub, self.run)
        if state is None:
            self.log("the hub is slow to answer; asking again")
            self.changed = time.monotonic()
            return
        # The status is read after Flower's answer: a run that ended in between has written its end.
        status = read_status(self.out)
        if state.startswith(("finished", GONE)) and not (status and status.over):
            raise RunError(f"Flower ended the run ({state}).", REMEDY)


def gateway_accepts(hub: HubFolder) -> bool:
    """Whether the gateway accepts connections, or is too busy to."""
    host = hub.settings.listen
    local = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    try:
        socket.create_connection((local, hub.settings.port), timeout=5).close()
    except TimeoutError:
        return True
    except OSError:
        return False
    return True
