"""The gateway as a hub runs it, in a thread, with real sockets and TLS, before a stand-in for the SuperLink."""

import http.client
import logging
import socket
import ssl
import threading
import time
from pathlib import Path
from typing import Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import fingerprint_of
from server.hub.approved_sites import ApprovedSite
from server.hub.connections import Connections
from server.hub.folder import init_hub
from server.hub.start import make_server
from simulations.local_federation import free_port
from tests.signed_calls import signed_headers
from tests.superlink import SuperLink

HOST = "127.0.0.1"
PATIENCE_SECONDS = 120.0
"""Upper bound of every wait: protection against hanging, not part of what is tested."""

CALL = "/v1/fleet/push-object"
LINE = f"POST {CALL} HTTP/1.1\r\nhost: hub\r\n".encode()


class RunningGateway(logging.Handler):
    """A context manager; `key` is approved. As a handler, it collects what the server logs.

    Args:
        folder: An empty folder.
    """

    def __init__(self, folder: Path) -> None:
        super().__init__()
        (folder / "superlink").mkdir()
        self.superlink = SuperLink(folder / "superlink" / "ca.crt", folder / "superlink")
        self.key = ec.generate_private_key(ec.SECP384R1())
        port = self.superlink.server_address[1]
        self.hub = init_hub(folder / "hub", HOST, port=free_port(), superlink_port=port)
        self.approve("north", self.key)
        self.context = ssl.create_default_context(cafile=str(self.hub.ca_certificate))
        # The stand-in has a CA of its own.
        with self.hub.ca_certificate.open("ab") as file:
            file.write((folder / "superlink" / "ca.crt").read_bytes())
        self.server = make_server(self.hub)
        self.connections: Connections = self.server.config.app.state.connections
        self.threads = [
            threading.Thread(target=self.server.run),
            threading.Thread(target=self.superlink.serve_forever, kwargs={"poll_interval": 0.05}),
        ]
        self.logged: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.logged.append(record.getMessage())

    def __enter__(self) -> Self:
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addHandler(self)
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.server.started)
        return self

    def __exit__(self, *exception: object) -> None:
        self.server.should_exit = True
        self.superlink.shutdown()
        for thread in self.threads:
            thread.join()
        self.superlink.server_close()
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).removeHandler(self)

    def approve(self, name: str, key: ec.EllipticCurvePrivateKey) -> None:
        """Approve a site's key."""
        node = len(self.hub.sites()) + 1
        self.hub.add_site(ApprovedSite(name, node, fingerprint_of(key.public_key()), "2026-01-31T12:00:00+00:00"))

    def connect(self) -> socket.socket:
        """Open a TCP connection and send nothing."""
        return socket.create_connection((HOST, self.hub.settings.port), PATIENCE_SECONDS)

    def connect_tls(self) -> ssl.SSLSocket:
        """Open a TLS connection and send nothing more."""
        return self.context.wrap_socket(self.connect(), server_hostname=HOST)

    def site(self) -> http.client.HTTPSConnection:
        """Open a connection that stays open after a call."""
        return http.client.HTTPSConnection(HOST, self.hub.settings.port, context=self.context, timeout=PATIENCE_SECONDS)

    def call(
        self, site: http.client.HTTPSConnection, key: ec.EllipticCurvePrivateKey | None = None, **headers: str
    ) -> int:
        """Make a signed call on a connection and return the status."""
        site.request("POST", CALL, b"x", signed_headers(key or self.key) | headers)
        answer = site.getresponse()
        answer.read()
        return answer.status

    def call_once(self, key: ec.EllipticCurvePrivateKey | None = None, **headers: str) -> int:
        """Make a signed call on a new connection and return the status."""
        url = f"https://{HOST}:{self.hub.settings.port}{CALL}"
        signed = signed_headers(key or self.key) | headers
        return httpx.post(
            url, content=b"x", headers=signed, verify=self.context, timeout=PATIENCE_SECONDS, trust_env=False
        ).status_code


def wait_until(ready) -> None:
    """Wait until `ready` returns true."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not ready():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def head(headers: dict[str, str]) -> bytes:
    return LINE + b"".join(f"{key}: {value}\r\n".encode() for key, value in headers.items())


def rest_of(stranger: socket.socket) -> bytes:
    """All that comes until the gateway closes the connection; a reset is also an end."""
    found = b""
    try:
        while block := stranger.recv(1 << 16):
            found += block
    except (ConnectionError, ssl.SSLError):
        pass
    return found
