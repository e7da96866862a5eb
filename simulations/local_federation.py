"""A hub and its sites as real processes on this machine: for benchmarks, for trying a deployment, and for tests."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from clients.site.folder import SiteFolder, init_site
from fedbus.errors import RunError
from fedbus.system.processes import end_child, log_tail
from server.hub.admission import approve_site
from server.hub.bundle import stage_application
from server.hub.folder import HubFolder, init_hub

HOST = "localhost"
PROGRAM = ("-m", "fedbus")
START_SECONDS = 120.0


def free_port() -> int:
    """A port that nobody uses now."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class LocalFederation:
    """A hub and one site for each archive, each with its folder; a context manager that leaves no process behind.

    Args:
        folder: an empty place for all folders and logs.
        archives: reader and folder of each site's images, by the site's name.
        environment: environment variables of all processes.
    """

    def __init__(
        self, folder: Path, archives: Mapping[str, tuple[str, Path]], environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.environment = folder.resolve(), dict(environment or {})
        self.hub: HubFolder = init_hub(self.folder / "hub", HOST, port=free_port(), superlink_port=free_port())
        self.sites: dict[str, SiteFolder] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, (reader, data) in archives.items():
            self.sites[name] = self.make_site(name).with_data(reader, data.resolve())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self.processes):
            self.end(name)

    def make_site(self, name: str, ca: Path | None = None) -> SiteFolder:
        """Make a site's folder; `ca` stands in for the hub's own authority."""
        hub = f"{HOST}:{self.hub.settings.port}"
        return init_site(self.folder / name, name, hub, ca or self.hub.ca_certificate, runtime_port=free_port())

    def start(self) -> None:
        """Start the hub, let every site in and have it join, with the installed application approved."""
        self.start_hub()
        _, digest = stage_application(self.hub)
        for name, site in self.sites.items():
            approve_site(self.hub, site.public_key)
            site.approve(digest)
            self.start_site(name)

    def start_hub(self) -> None:
        """Start the hub and wait until sites can connect.

        Raises:
            RunError: it ended or does not answer.
        """
        self.spawn("hub", ["hub", "start", str(self.hub.path)])
        self.wait_until(lambda: "Sites can connect" in self.log("hub").read_text(encoding="utf-8"), "hub")

    def start_site(self, name: str) -> None:
        """Have a site join; it connects in its own time."""
        self.spawn(name, ["site", "join", str(self.sites[name].path)])

    def run(self, settings: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start `fedbus hub run`; its words go to the log `run`."""
        return self.spawn("run", ["hub", "run", str(self.hub.path), str(settings), *options])

    def spawn(self, name: str, words: Sequence[str], program: Sequence[str] = PROGRAM) -> subprocess.Popen[bytes]:
        """Start a FedBUS command in a process group of its own, under a name."""
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *program, *words], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | self.environment, start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def log(self, name: str) -> Path:
        """What the process of that name printed."""
        return self.folder / f"{name}.log"

    def leave(self, name: str) -> None:
        """End a process as Ctrl-C does, and wait."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGINT)
        process.wait(START_SECONDS)

    def kill(self, name: str) -> None:
        """End a process as a power cut does."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def end(self, name: str) -> None:
        """End a process by any means."""
        end_child(self.processes.pop(name))

    def wait_until(self, ready: Callable[[], bool], name: str, seconds: float = START_SECONDS) -> None:
        """Wait for something that the process of that name does.

        Raises:
            RunError: the process ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            over = self.processes[name].poll() is not None and not ready()
            if over or time.monotonic() > deadline:
                what = "ended" if over else f"took more than {seconds:.0f} s"
                raise RunError(f"{name} {what}: {log_tail(self.log(name))}.", f"See {self.log(name)}.")
            time.sleep(0.1)
