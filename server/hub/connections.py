"""Which connections to the gateway stay open: few and briefly until a request proves an approved key, then longer.

A new connection is always accepted, and takes the place of the oldest one where there are too many. So nobody can lock
others out by holding connections, not even behind the same address as a site.
"""

import asyncio
import asyncio.sslproto
import socket
import struct
from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_address
from ssl import SSLContext
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

MAX_HEAD_BYTES = 16 << 10
"""Of a request's line and headers; a site's have less than 2 kB."""

READ_BYTES = 32 << 10
"""Read at once from a connection, which has a buffer of this size for as long as it is open; two TLS records."""

STRANGER_SECONDS = 10
"""From the first packet to a request with an approved key: TLS handshake and headers."""

SITE_SECONDS = 600.0
"""From one request with an approved key to the next, with body and answer: 5 MB take 40 s at 1 Mbit/s."""

SHUTDOWN_SECONDS = 5
"""How long the other side has to end TLS once the gateway has closed a connection."""

MAX_STRANGERS, MAX_STRANGERS_PER_NETWORK = 512, 128
"""Connections without a proved key. A hospital's sites may all come from one address, each with a few connections."""

MAX_PER_SITE = 64
"""Connections with the same proved key; a SuperNode uses fewer than ten."""


class Connections:
    """All open connections of a gateway, by the network or by the approved key that they belong to."""

    def __init__(self) -> None:
        self.strangers, self.sites = _Owned(), _Owned()
        self.by_client: dict[tuple[str, int], Connection] = {}

    def enter(self, connection: "Connection") -> None:
        """Add a new connection; the oldest is closed if there are now too many."""
        self.by_client[connection.client] = connection
        network = network_of(connection.client[0])
        self.strangers.add(network, connection)
        if self.strangers.count(network) > MAX_STRANGERS_PER_NETWORK:
            self.strangers.oldest(network).cut()
        elif len(self.strangers) > MAX_STRANGERS:
            self.strangers.oldest(self.strangers.largest_owner()).cut()

    def leave(self, connection: "Connection") -> None:
        """Remove a connection, which may have been removed before."""
        for owned in (self.strangers, self.sites):
            owned.discard(connection)
        if self.by_client.get(connection.client) is connection:
            del self.by_client[connection.client]

    def prove(self, client: tuple[str, int] | None, key: str) -> None:
        """Record that a request on the connection of this client was signed with an approved key."""
        connection = self.by_client.get(client) if client else None
        if connection is None:  # it was closed in the meantime
            return
        connection.set_deadline(SITE_SECONDS)
        self.strangers.discard(connection)
        self.sites.add(key, connection)
        if self.sites.count(key) > MAX_PER_SITE:
            self.sites.oldest(key).cut()


class Connection(asyncio.sslproto.SSLProtocol):
    """TLS and HTTP of one connection, with a deadline that does not depend on what the other side sends.

    uvicorn makes one for each accepted TCP connection, in place of its own TLS: that one makes a connection known only
    after the TLS handshake, so silent connections could be neither counted nor closed.

    Args:
        connections: All connections of the gateway.
        context: The server's certificate and key.
        config: As uvicorn passes it to an HTTP protocol, like the rest.
    """

    max_size = READ_BYTES

    def __init__(
        self,
        connections: Connections,
        context: SSLContext,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        loop = _loop or asyncio.get_running_loop()
        http = HttpProtocol(config, server_state, app_state, loop)
        super().__init__(
            loop,
            http,
            context,
            waiter=None,  # type: ignore[arg-type]  # as asyncio's own server passes it
            server_side=True,
            ssl_handshake_timeout=STRANGER_SECONDS,
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self.connections, self.loop = connections, loop
        self.client = ("", 0)
        self.tcp: asyncio.Transport
        self.deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection and start TLS."""
        assert isinstance(transport, asyncio.Transport)
        self.tcp = transport
        peer = transport.get_extra_info("peername")
        super().connection_made(transport)
        if peer is None:  # it ended before it was accepted
            transport.abort()
            return
        self.client = (str(peer[0]), int(peer[1]))
        self.set_deadline(STRANGER_SECONDS)
        self.connections.enter(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Remove the connection from the count."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.connections.leave(self)
        super().connection_lost(exc)

    def set_deadline(self, seconds: float) -> None:
        """Close the connection after this time, unless it is called again before."""
        if self.deadline is not None:
            self.deadline.cancel()
        self.deadline = self.loop.call_later(seconds, self.cut)

    def cut(self) -> None:
        """Close the connection at once, by a reset.

        A SuperNode tries again after a reset. It gives up after an error of TLS, such as an end within a handshake.
        """
        self.connections.leave(self)
        connected = self.tcp.get_extra_info("socket")
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.tcp.abort()


class HttpProtocol(H11Protocol):
    """uvicorn's HTTP by h11, which limits request line and headers.

    Not httptools, uvicorn's choice: it has no limit for a header, and joining a header's pieces takes quadratic time.
    """

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, also in a body whose request is being answered; uvicorn would log a traceback."""
        if self.cycle is not None:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.abort()


def network_of(host: str) -> str:
    """Return the address, or for IPv6 its /64: the smallest network that one subscriber gets."""
    address: IPv4Address | IPv6Address = ip_address(host)
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return host


class _Owned:
    """Connections by owner, the oldest first."""

    def __init__(self) -> None:
        self.of_owner: dict[Hashable, dict[Connection, None]] = {}
        self.owner_of: dict[Connection, Hashable] = {}

    def __len__(self) -> int:
        return len(self.owner_of)

    def add(self, owner: Hashable, connection: Connection) -> None:
        if self.owner_of.get(connection) == owner:
            return
        self.discard(connection)
        self.owner_of[connection] = owner
        self.of_owner.setdefault(owner, {})[connection] = None

    def discard(self, connection: Connection) -> None:
        owner = self.owner_of.pop(connection, None)
        if owner is not None:
            del self.of_owner[owner][connection]
            if not self.of_owner[owner]:
                del self.of_owner[owner]

    def count(self, owner: Hashable) -> int:
        return len(self.of_owner.get(owner, ()))

    def oldest(self, owner: Hashable) -> Connection:
        return next(iter(self.of_owner[owner]))

    def largest_owner(self) -> Hashable:
        return max(self.of_owner, key=self.count)
