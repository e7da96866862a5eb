"""`fedbus hub start`: the SuperLink behind the gate, until somebody ends it."""

import logging
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from fedbus.errors import RunError
from fedbus.system.processes import end_child, last_words, stops_on_signals
from server.hub.approved_sites import approved_sites_file
from server.hub.folder import HubFolder
from server.hub.gateway import make_gateway
from server.hub.superlink import HOST, start_superlink

WATCH_SECONDS = 0.5


def serve(hub: HubFolder, ready: Callable[[], object]) -> None:
    """Run a hub until Ctrl-C or SIGTERM; the SuperLink ends with it.

    Args:
        hub: its folder.
        ready: called once sites can connect.

    Raises:
        RunError: a port is taken, or the SuperLink could not start or ended.
    """
    settings = hub.settings
    _check_free(settings.listen, settings.port)
    stop = threading.Event()
    with stops_on_signals(stop):
        child = start_superlink(hub)
        gateway = _gate(hub)
        thread = threading.Thread(target=gateway.run)  # not in the main thread, where it would take the signals
        try:
            thread.start()
            _watch(gateway, thread, child, stop, ready)
        finally:
            gateway.should_exit = True
            thread.join()
            end_child(child)
    if not stop.is_set():
        raise RunError(
            f"The hub ended by itself: {last_words(hub.log)}.",
            f"Start it again; the whole story is in {hub.log}.",
        )


def _gate(hub: HubFolder) -> uvicorn.Server:
    settings = hub.settings
    return uvicorn.Server(
        uvicorn.Config(
            make_gateway(f"{HOST}:{settings.superlink_port}", hub.ca_certificate, KeyList(hub)),
            host=settings.listen, port=settings.port, ssl_certfile=str(hub.certificate),
            ssl_keyfile=str(hub.key), log_level=logging.ERROR, access_log=False, server_header=False,
            timeout_graceful_shutdown=2, lifespan="on",
        )
    )  # fmt: skip


def _watch(
    gateway: uvicorn.Server,
    thread: threading.Thread,
    superlink: subprocess.Popen[bytes],
    stop: threading.Event,
    ready: Callable[[], object],
) -> None:
    """Wait until somebody ends the hub, or a part of it ends by itself."""
    said = False
    while not stop.wait(WATCH_SECONDS) and thread.is_alive() and superlink.poll() is None:
        if gateway.started and not said:
            said = True
            ready()


class KeyList:
    """The fingerprints of a hub's approved keys, read again when their file changes."""

    def __init__(self, hub: HubFolder) -> None:
        self.hub, self.stamp, self.keys = hub, (-1, -1), frozenset[str]()

    def __call__(self) -> frozenset[str]:
        """The keys that are let in now."""
        found = approved_sites_file(self.hub.path).stat()
        stamp = found.st_mtime_ns, found.st_ino  # two files written within a tick of the clock are two files
        if stamp != self.stamp:
            self.keys, self.stamp = frozenset(site.key for site in self.hub.sites().values()), stamp
        return self.keys


def _check_free(host: str, port: int) -> None:
    family: Any = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RunError(
                f"{host}:{port} can't be used ({error.strerror}).",
                "Is this hub running already? Else set another port in hub.toml, and tell the sites.",
            ) from error
