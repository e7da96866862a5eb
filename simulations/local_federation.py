"""A hub and its sites as real processes on this machine, for benchmarks and tests."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Self

from clients.site.folder import SiteFolder, init_site, open_site_folder
from fedbus.errors import RunError
from fedbus.system.processes import end_child, log_tail
from server.hub.admission import approve_site
from server.hub.bundle import stage_application
from server.hub.folder import HubFolder, init_hub

HOST = "localhost"
PROGRAM = ("-m", "fedbus")
PATIENCE_SECONDS = 600.0
"""Upper bound of every wait; generous, because on a busy machine Python and PyTorch take minutes to start."""

LIMITS = {"min-images": 1, "min-split-patients": 1, "min-update-images": 2, "min-free-disk": 0}
"""Limits of the sites, below the defaults: a federation on one machine often has a few generated images."""


def free_port() -> int:
    """Return a port that is free now."""
    with closing(socket.socket()) as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def lower_limits(site: SiteFolder) -> SiteFolder:
    """Set `LIMITS` in a site's site.toml, and open the site again."""
    text = site.settings_file.read_text(encoding="utf-8")
    for key, value in LIMITS.items():
        text = re.sub(rf"(?m)^{key} = \d+$", f"{key} = {value}", text)
    site.settings_file.write_text(text, encoding="utf-8")
    return open_site_folder(site.path)


class LocalFederation:
    """A hub and one site for each dataset, each with its folder; a context manager that leaves no process behind.

    Args:
        folder: An empty folder for all folders and logs.
        datasets: Reader and folder of each site's images, by the site's name.
        environment: Further environment variables of all processes.
    """

    def __init__(
        self, folder: Path, datasets: Mapping[str, tuple[str, Path]], environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self.environment = folder.resolve(), dict(environment or {})
        self.hub: HubFolder = init_hub(self.folder / "hub", HOST, port=free_port(), superlink_port=free_port())
        self.sites: dict[str, SiteFolder] = {}
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name, (reader, data) in datasets.items():
            self.sites[name] = self.make_site(name).with_data(reader, data.resolve())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        for name in list(self.processes):
            self.end(name)

    def make_site(self, name: str, ca: Path | None = None) -> SiteFolder:
        """Make a site's folder; `ca` replaces the certificate of the hub's own CA."""
        hub = f"{HOST}:{self.hub.settings.port}"
        site = init_site(self.folder / name, name, hub, ca or self.hub.ca_certificate, runtime_port=free_port())
        return lower_limits(site)

    def start(self) -> None:
        """Start the hub, approve every site and have it join, with the installed application approved."""
        self.start_hub()
        self.approve_sites()
        for name in self.sites:
            self.start_site(name)

    def approve_sites(self) -> None:
        """Approve every site at the hub, and the installed application at every site."""
        _, digest = stage_application(self.hub)
        for site in self.sites.values():
            approve_site(self.hub, site.public_key)
            site.approve_any_study(digest)

    def start_hub(self) -> None:
        """Start the hub and wait until sites can connect.

        Raises:
            RunError: If it has ended or does not answer.
        """
        self.spawn("hub", ["hub", "start", str(self.hub.path)])
        self.wait_until(lambda: "Sites can connect" in self.log("hub").read_text(encoding="utf-8"), "hub")

    def start_site(self, name: str) -> None:
        """Have a site join, without waiting until it is connected."""
        self.spawn(name, ["site", "join", str(self.sites[name].path)])

    def run(self, settings: Path, *options: str) -> subprocess.Popen[bytes]:
        """Start `fedbus hub run`, with its output in the log `run`."""
        return self.spawn("run", ["hub", "run", str(self.hub.path), str(settings), *options])

    def spawn(self, name: str, arguments: Sequence[str], program: Sequence[str] = PROGRAM) -> subprocess.Popen[bytes]:
        """Start a FedBUS command in its own process group; `name` identifies process and log."""
        with self.log(name).open("wb") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, *program, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                env=os.environ | self.environment, start_new_session=True,
            )  # fmt: skip
        return self.processes[name]

    def log(self, name: str) -> Path:
        """Output of the process of that name."""
        return self.folder / f"{name}.log"

    def leave(self, name: str) -> None:
        """End a process as Ctrl-C does, and wait until it has ended."""
        process = self.processes.pop(name)
        process.send_signal(signal.SIGINT)
        process.wait(PATIENCE_SECONDS)

    def kill(self, name: str) -> None:
        """Kill a process, as a power cut would."""
        process = self.processes.pop(name)
        process.kill()
        process.wait()

    def end(self, name: str) -> None:
        """End a process, if necessary by killing it."""
        end_child(self.processes.pop(name))

    def wait_until(self, ready: Callable[[], bool], name: str, seconds: float = PATIENCE_SECONDS) -> None:
        """Wait until `ready` returns true, while the process of that name runs.

        Raises:
            RunError: If the process has ended, or the time is over.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            # `ready` again: the process may have done its work and ended since.
            ended = self.processes[name].poll() is not None and not ready()
            if ended or time.monotonic() > deadline:
                what = "ended" if ended else f"took more than {seconds:.0f} s"
                raise RunError(f"{name} {what}: {log_tail(self.log(name))}.", f"See {self.log(name)}.")
            time.sleep(0.1)
