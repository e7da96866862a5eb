"""How many connections strangers have and for how long, with real sockets and TLS, and a site beside them."""

import socket
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from server.hub import connection, connections
from server.hub.approved_sites import APPROVED_SITES
from server.hub.connections import MAX_STRANGERS_PER_NETWORK, SITE_SECONDS, Connections, network_of
from tests.running_gateway import LINE, PATIENCE_SECONDS, RunningGateway, head, rest_of, wait_until


def test_silent_connections_leave_room_for_a_site(gateway):
    site = gateway.site()
    assert gateway.call(site) == 418
    port = site.sock.getsockname()
    strangers = [gateway.connect() for _ in range(2 * MAX_STRANGERS_PER_NETWORK)]
    try:
        assert gateway.call_once() == 418  # a new connection, from the same address
        wait_until(lambda: len(gateway.connections.strangers) <= MAX_STRANGERS_PER_NETWORK)
        assert gateway.call(site) == 418
        assert site.sock.getsockname() == port, "the site's connection was kept"
        with pytest.raises(ConnectionResetError):  # the oldest made room; an end of TLS would end a SuperNode
            strangers[0].recv(1)
    finally:
        site.close()
        for stranger in strangers:
            stranger.close()
    wait_until(lambda: len(gateway.connections.strangers) == 0)


def first_of(gateway: RunningGateway, data: bytes) -> socket.socket:
    stranger = gateway.connect_tls()
    stranger.sendall(data)
    return stranger


def half_handshake(gateway: RunningGateway) -> socket.socket:
    stranger = gateway.connect()
    stranger.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc")  # the start of a ClientHello
    return stranger


def half_closed(gateway: RunningGateway) -> socket.socket:
    stranger = gateway.connect()
    stranger.shutdown(socket.SHUT_WR)
    return stranger


STALLED = {
    "silent": RunningGateway.connect,
    "half a handshake": half_handshake,
    "half-closed": half_closed,
    "silent after the handshake": RunningGateway.connect_tls,
    "half a header": lambda gateway: first_of(gateway, LINE + b"x: "),
    "an answer that is not acknowledged": lambda gateway: first_of(gateway, LINE + b"\r\n"),
    "no body": lambda gateway: first_of(gateway, head({"content-length": "9"}) + b"\r\n"),
    "waiting for 100": lambda gateway: first_of(gateway, LINE + b"expect: 100-continue\r\ncontent-length: 9\r\n\r\n"),
}


@pytest.mark.parametrize("stall", STALLED.values(), ids=STALLED.keys())
def test_whoever_proves_no_key_is_disconnected(stall, gateway, monkeypatch):
    site = gateway.site()
    assert gateway.call(site) == 418
    port = site.sock.getsockname()
    monkeypatch.setattr(connection, "STRANGER_SECONDS", 0.3)
    with suppress(OSError), stall(gateway) as stranger:  # on a busy machine the time may be over before it stalls
        rest_of(stranger)
        wait_until(lambda: len(gateway.connections.strangers) == 0)
    monkeypatch.undo()
    assert gateway.call(site) == 418
    assert site.sock.getsockname() == port
    site.close()


def test_an_interrupted_handshake_ends_by_a_reset(gateway, monkeypatch):
    monkeypatch.setattr(connection, "STRANGER_SECONDS", 0.3)

    def wait() -> None:
        with half_handshake(gateway) as stranger:
            stranger.recv(1)

    with pytest.raises(ConnectionResetError):  # a SuperNode tries again; an end of TLS would be permanent for it
        wait()


def test_a_slow_header_does_not_extend_the_time(gateway, monkeypatch):
    monkeypatch.setattr(connection, "STRANGER_SECONDS", 0.3)
    with suppress(OSError), gateway.connect_tls() as stranger:
        stranger.sendall(LINE + b"x: ")
        wait_until(lambda: stranger.sendall(b"a") == 1)  # until it fails


def test_an_idle_site_is_disconnected_later(gateway):
    site = gateway.site()
    assert gateway.call(site) == 418
    (found,) = gateway.connections.sites.owner_of
    left = found.deadline.when() - found.loop.time()
    assert SITE_SECONDS - PATIENCE_SECONDS < left <= SITE_SECONDS
    site.close()
    wait_until(lambda: len(gateway.connections.sites) == 0)


def test_a_site_has_a_number_of_connections_at_most(gateway, monkeypatch):
    monkeypatch.setattr(connections, "MAX_PER_SITE", 3)
    sites = [gateway.site() for _ in range(6)]
    for site in sites:
        assert gateway.call(site) == 418
    wait_until(lambda: len(gateway.connections.sites) == 3)
    assert gateway.call(sites[-1]) == 418
    for site in sites:
        site.close()


def test_sites_behind_one_address_do_not_displace_each_other(gateway, monkeypatch):
    monkeypatch.setattr(connections, "MAX_STRANGERS_PER_NETWORK", 1)
    monkeypatch.setattr(connections, "MAX_PER_SITE", 1)
    keys = [ec.generate_private_key(ec.SECP384R1()) for _ in range(4)]
    for number, key in enumerate(keys):
        gateway.approve(f"site-{number}", key)
    sites = [(gateway.site(), key) for key in keys]
    assert [gateway.call(site, key) for site, key in sites] == [418] * 4
    ports = [site.sock.getsockname() for site, _ in sites]
    assert [gateway.call(site, key) for site, key in sites] == [418] * 4
    assert [site.sock.getsockname() for site, _ in sites] == ports, "the connections were kept"
    for number, (site, _) in enumerate(sites):
        site.close()
        gateway.hub.remove_site(f"site-{number}")


def test_a_forwarded_address_is_not_believed(gateway):
    site = gateway.site()
    assert gateway.call(site, **{"x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"}) == 418
    (found,) = gateway.connections.sites.owner_of
    assert found.client == site.sock.getsockname()
    site.close()


def test_a_list_of_sites_that_cannot_be_read_admits_nobody(running_gateway):
    running_gateway.logged.clear()
    file = running_gateway.hub.path / APPROVED_SITES
    good = file.read_text()
    file.write_text("[")
    for _ in range(3):
        assert running_gateway.call_once() == 503
    assert len(running_gateway.logged) == 3
    assert all(APPROVED_SITES in line for line in running_gateway.logged)
    file.write_text(good)
    running_gateway.logged.clear()


class Counted:
    """A connection without a network, which is removed as soon as it is cut."""

    def __init__(self, known: Connections, host: str, port: int, heard: bool = False) -> None:
        self.known, self.client, self.was_cut = known, (host, port), False
        known.enter(self)
        if heard:
            known.hear(self)

    def cut(self) -> None:
        self.was_cut = True
        self.known.leave(self)


def test_the_largest_network_makes_room(monkeypatch):
    monkeypatch.setattr(connections, "MAX_STRANGERS", 6)
    known = Connections()
    attackers = [Counted(known, "192.0.2.1", port) for port in range(4)]
    others = [Counted(known, f"198.51.100.{last}", 1) for last in range(5)]
    assert [each.was_cut for each in attackers] == [True, True, True, False]
    assert not any(each.was_cut for each in others)
    assert len(known.strangers) == len(known.by_client) == 6


def test_silent_connections_and_others_do_not_displace_each_other(monkeypatch):
    monkeypatch.setattr(connections, "MAX_STRANGERS_PER_NETWORK", 2)
    known = Connections()
    heard = [Counted(known, "192.0.2.1", port, heard=True) for port in (1, 2)]
    silent = [Counted(known, "192.0.2.1", port) for port in (3, 4, 5, 6)]
    assert [each.was_cut for each in (*heard, *silent)] == [False, False, True, True, False, False]
    Counted(known, "192.0.2.1", 7, heard=True)
    assert [each.was_cut for each in heard] == [True, False]
    assert known.strangers.count(("192.0.2.1", "silent")) == 1  # for a moment, the last one was also silent
    assert len(known.by_client) == 3


def test_an_ipv6_network_counts_as_one_address():
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::1") == "2001:db8:1:2::"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
