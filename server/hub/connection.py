"""TLS and HTTP of one connection to the gateway, with limits that do not depend on what the other side sends."""

import asyncio
import asyncio.sslproto
import socket
import struct
from ssl import SSLContext
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from server.hub.connections import Connections

MAX_HEAD_BYTES = 16 << 10
"""Of a request's line and headers; a site's have less than 2 kB."""

READ_BYTES = 32 << 10
"""Read at once from a connection, which has a buffer of this size for as long as it is open; two TLS records."""

STRANGER_SECONDS = 10
"""From the first packet to a request with an approved key: TLS handshake and headers."""

SHUTDOWN_SECONDS = 5
"""How long the other side has to end TLS once the gateway has closed a connection."""


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
            ssl_handshake_timeout=2 * STRANGER_SECONDS,  # not reached: the deadline comes first, and ends by a reset
            ssl_shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self.connections, self.loop = connections, loop
        self.client, self.silent = ("", 0), True
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

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what has arrived."""
        if self.silent:
            self.silent = False
            self.connections.hear(self)
        super().buffer_updated(nbytes)

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
