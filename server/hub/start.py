"""`fedbus hub start`: the SuperLink behind the gateway, until somebody ends it."""

import logging
import resource
import secrets
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import uvicorn

from fedbus.deployment.private_folder import write_private
from fedbus.errors import RunError
from fedbus.system.processes import end_child, log_tail
from fedbus.system.scratch import delete_abandoned, scratch_folder
from fedbus.system.signals import stops_on_signals
from server.hub.admission import check_approved_sites
from server.hub.approved_sites import approved_sites_file, lock_sites
from server.hub.connection import MAX_HEAD_BYTES, Connection
from server.hub.executor import Executor
from server.hub.folder import HubFolder
from server.hub.gateway import make_gateway
from server.hub.instructions import Pipe
from server.hub.live_certificate import follow_certificate
from server.hub.log_limit import LogLimit
from server.hub.superlink import HOST, start_superlink

POLL_SECONDS = 0.5

MAX_OPEN_FILES = 65_536

BACKLOG = 512
"""Connections that wait to be accepted; this many are accepted before the first of them is counted."""

KEEP_ALIVE_SECONDS = 15
"""An idle connection of a site is closed; longer than the 5 s after which a SuperNode closes it, so that no request
meets a connection that is being closed."""


def serve(hub: HubFolder, ready: Callable[[], object]) -> None:
    """Run a hub until Ctrl-C or SIGTERM; the SuperLink ends with it.

    Args:
        hub: The hub's folder.
        ready: Called once sites can connect.

    Raises:
        RunError: If a port is in use, or the SuperLink did not start or has ended.
    """
    settings = hub.settings
    raise_file_limit()
    if hub.exchange.is_dir():
        delete_abandoned(hub.exchange)  # updates of a run that was killed
    _check_port_is_free(settings.listen, settings.port)
    stop = threading.Event()
    with stops_on_signals(stop), scratch_folder(Path(tempfile.gettempdir())) as folder, Pipe() as pipe:
        secret = secrets.token_bytes(32)
        write_private(folder / "secret", secret)
        # A site that is approved now would be registered neither by this process nor by that.
        with lock_sites(hub.path):
            check_approved_sites(hub)
            superlink = start_superlink(hub, folder / "secret", pipe.write_end)
        server, ended = make_server(hub, pipe.read_end), threading.Event()
        # Not in the main thread, where uvicorn would install its own signal handlers.
        thread = threading.Thread(target=server.run)
        executor = threading.Thread(target=Executor(hub, secret, folder).run, args=(ended,))
        try:
            thread.start()
            executor.start()
            _wait(server, thread, superlink, stop, ready)
        finally:
            pipe.release_everyone()
            server.should_exit = True
            ended.set()
            thread.join()
            executor.join()
            end_child(superlink)
    if not stop.is_set():
        raise RunError(
            f"The hub has ended unexpectedly: {log_tail(hub.log)}.",
            f"Start it again; for details, see {hub.log}.",
        )


def make_server(hub: HubFolder, pipe: int | None = None) -> uvicorn.Server:
    """Make the web server of the gateway, which accepts connections once it runs; `pipe` as in `Instructions`."""
    settings = hub.settings
    superlink = f"{HOST}:{settings.superlink_port}"
    gateway = make_gateway(superlink, hub.ca_certificate, ApprovedKeys(hub), hub.exchange, pipe)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    follow_certificate(context, hub.certificate, hub.key)
    context.options |= ssl.OP_NO_RENEGOTIATION  # of TLS 1.2: each costs as much as a new connection
    protocol: Any = partial(Connection, gateway.state.connections, context)
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).addFilter(LogLimit())
    return uvicorn.Server(
        uvicorn.Config(
            gateway, host=settings.listen, port=settings.port, http=protocol, ws="none", loop="asyncio",
            h11_max_incomplete_event_size=MAX_HEAD_BYTES, backlog=BACKLOG, timeout_keep_alive=KEEP_ALIVE_SECONDS,
            log_level=logging.ERROR, access_log=False, server_header=False, proxy_headers=False,
            timeout_graceful_shutdown=2, lifespan="on",
        )
    )  # fmt: skip


def raise_file_limit() -> None:
    """Let this process and its children open as many files as the system allows, within reason.

    Each connection takes one, and the usual limit of 1024 is for programs that use `select`.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


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
