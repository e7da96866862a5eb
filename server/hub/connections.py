"""Which connections to the gateway stay open: few and briefly until a request proves an approved key, then longer.

A new connection is always accepted, and takes the place of the oldest one where there are too many. Connections that
have sent nothing compete only with each other. So nobody can lock others out by holding connections, not even behind
the same address as a site.
"""

from collections.abc import Hashable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

SITE_SECONDS = 600.0
"""From one request with an approved key to the next, with body and answer: 4 MB take 40 s at 1 Mbit/s."""

MAX_STRANGERS, MAX_STRANGERS_PER_NETWORK = 512, 128
"""Connections without a proved key, the second figure for those that have sent something and for the silent ones each.
A hospital's sites may all come from one address, each with a few connections."""

MAX_PER_SITE = 64
"""Connections with the same proved key; a SuperNode uses fewer than ten."""


class Connection(Protocol):
    """What the count needs of a connection: `server.hub.connection.Connection`.

    Attributes:
        client: Address and port of the other side.
    """

    client: tuple[str, int]

    def set_deadline(self, seconds: float) -> None:
        """Close the connection after this time, unless it is called again before."""

    def cut(self) -> None:
        """Close the connection at once and call `leave`."""


class Connections:
    """All open connections of a gateway, by the network or by the approved key that they belong to."""

    def __init__(self) -> None:
        self.strangers, self.sites = _Owned(), _Owned()
        self.by_client: dict[tuple[str, int], Connection] = {}

    def enter(self, connection: Connection) -> None:
        """Add a new connection, which has sent nothing yet; an older one is closed if there are too many."""
        self.by_client[connection.client] = connection
        self._add_stranger(connection, "silent")

    def hear(self, connection: Connection) -> None:
        """Record that something has arrived on a new connection."""
        if connection in self.strangers.owner_of:
            self._add_stranger(connection, "heard")

    def _add_stranger(self, connection: Connection, phase: str) -> None:
        owner = network_of(connection.client[0]), phase
        self.strangers.add(owner, connection)
        if self.strangers.count(owner) > MAX_STRANGERS_PER_NETWORK:
            self.strangers.oldest(owner).cut()
        elif len(self.strangers) > MAX_STRANGERS:
            self.strangers.oldest(self.strangers.largest_owner()).cut()

    def leave(self, connection: Connection) -> None:
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
