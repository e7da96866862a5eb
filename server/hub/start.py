"""`fedbus hub start`: the SuperLink behind the gateway, until somebody ends it."""

import logging
import socket
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import uvicorn

from fedbus.errors import RunError
from fedbus.system.processes import end_child, log_tail, stops_on_signals
from server.hub.approved_sites import approved_sites_file
from server.hub.folder import HubFolder
from server.hub.gateway import make_gateway
from server.hub.superlink import HOST, start_superlink

POLL_SECONDS = 0.5


def serve(hub: HubFolder, ready: Callable[[], object]) -> None:
    """Run a hub until Ctrl-C or SIGTERM; the SuperLink ends with it.

    Args:
        hub: The hub's folder.
        ready: Called once sites can connect.

    Raises:
        RunError: If a port is in use, or the SuperLink did not start or has ended.
    """
    settings = hub.settings
    _check_port_is_free(settings.listen, settings.port)
    stop = threading.Event()
    with stops_on_signals(stop):
        superlink = start_superlink(hub)
        server = _make_server(hub)
        # Not in the main thread, where uvicorn would install its own signal handlers.
        thread = threading.Thread(target=server.run)
        try:
            thread.start()
            _wait(server, thread, superlink, stop, ready)
        finally:
            server.should_exit = True
            thread.join()
            end_child(superlink)
    if not stop.is_set():
        raise RunError(
            f"The hub has ended unexpectedly: {log_tail(hub.log)}.",
            f"Start it again; for details, see {hub.log}.",
        )


def _make_server(hub: HubFolder) -> uvicorn.Server:
    settings = hub.settings
    return uvicorn.Server(
        uvicorn.Config(
            make_gateway(f"{HOST}:{settings.superlink_port}", hub.ca_certificate, ApprovedKeys(hub)),
            host=settings.listen, port=settings.port, ssl_certfile=str(hub.certificate),
            ssl_keyfile=str(hub.key), log_level=logging.ERROR, access_log=False, server_header=False,
            timeout_graceful_shutdown=2, lifespan="on",
        )
    )  # fmt: skip


def _wait(
    server: uvicorn.Server,
    thread: threading.Thread,
    superlink: subprocess.Popen[bytes],
    stop: threading.Event,
    ready: Callable[[], object],
) -> None:
    """Wait until `stop` is set, or until the gateway or the SuperLink has ended."""
    announced = False
    while not stop.wait(POLL_SECONDS) and thread.is_alive() and superlink.poll() is None:
        if server.started and not announced:
            announced = True
            ready()


class ApprovedKeys:
    """The fingerprints of a hub's approved keys, read again when their file has changed."""

    def __init__(self, hub: HubFolder) -> None:
        self.hub, self.version, self.keys = hub, (-1, -1), frozenset[str]()

    def __call__(self) -> frozenset[str]:
        """Return the keys that are approved now."""
        found = approved_sites_file(self.hub.path).stat()
        # With the inode: a second change within one tick of the clock has the same time, but is another file.
        version = found.st_mtime_ns, found.st_ino
        if version != self.version:
            self.keys, self.version = frozenset(site.key for site in self.hub.sites().values()), version
        return self.keys


def _check_port_is_free(host: str, port: int) -> None:
    family: Any = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server itself will: else connections of a hub that has just ended would count as in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise RunError(
                f"{host}:{port} can't be used ({error.strerror}).",
                "If this hub is not already running, set another port in hub.toml and tell the sites.",
            ) from error
