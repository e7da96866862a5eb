"""Attacks by strangers on the gateway, with real sockets and TLS, and a site beside them."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from server.hub import connection, connections
from server.hub.approved_sites import APPROVED_SITES
from server.hub.connection import MAX_HEAD_BYTES, READ_BYTES
from server.hub.connections import MAX_STRANGERS_PER_NETWORK, SITE_SECONDS, Connections, network_of
from tests.running_gateway import CALL, PATIENCE_SECONDS, RunningGateway, wait_until
from tests.signed_calls import signed_headers

LINE = f"POST {CALL} HTTP/1.1\r\nhost: hub\r\n".encode()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def gateway(running: RunningGateway) -> Iterator[RunningGateway]:
    """The gateway, of which every test must leave an open door and an empty log."""
    running.superlink.seen.clear()
    yield running
    assert running.call_once() == 418
    assert running.logged == []


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


@pytest.fixture
def parsed(monkeypatch) -> list[int]:
    """Bytes that reach the HTTP parser of any connection."""
    sizes: list[int] = []
    receive = connection.HttpProtocol.data_received

    def data_received(self, data: bytes) -> None:
        sizes.append(len(data))
        receive(self, data)

    monkeypatch.setattr(connection.HttpProtocol, "data_received", data_received)
    return sizes


ENDLESS = {
    "request line": (b"GET /", b"a" * 4096),
    "query": (b"GET /?", b"a=b&" * 1024),
    "header value": (b"GET / HTTP/1.1\r\nhost: x\r\nx: ", b"a" * 4096),
    "header name": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a" * 4096),
    "headers": (b"GET / HTTP/1.1\r\nhost: x\r\n", b"a:b\r\n" * 1024),
    "folded header": (b"GET / HTTP/1.1\r\nhost: x\r\nx: a\r\n", b" b\r\n" * 1024),
    "key": (LINE + b"flwr-public-key: ", b"QUJD" * 1024),
    "method": (b"", b"A" * 4096),
    "blank lines": (b"", b"\r\n" * 2048),
    "body in chunks": (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 1024),
    "chunk extension": (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1;", b"a" * 4096),
    "trailers": (b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", b"a: b\r\n" * 1024),
    "body": (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 99999999999\r\n\r\n", b"a" * 4096),
}  # fmt: skip


@pytest.mark.parametrize(("start", "piece"), ENDLESS.values(), ids=ENDLESS.keys())
def test_an_endless_request_is_cut_off_early(start, piece, gateway, parsed):
    with gateway.connect_tls() as stranger:
        try:
            stranger.sendall(start)
            for _ in range((64 << 20) // len(piece)):  # far more than all buffers between here and there
                stranger.sendall(piece)
        except (ConnectionError, ssl.SSLError):
            pass
        else:
            pytest.fail("all of it was accepted")
    # Whole answers are read in pieces of this size; a few may be on their way when the connection is closed.
    assert sum(parsed) <= MAX_HEAD_BYTES + 8 * READ_BYTES


def test_a_large_header_within_the_limit_passes(gateway):
    assert gateway.call_once(x="a" * (MAX_HEAD_BYTES - 4096)) == 418


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


def unsigned(key: ec.EllipticCurvePrivateKey) -> dict[str, dict[str, str]]:
    """Headers that have an approved public key and no signature by it of about this time."""
    good, stranger = signed_headers(key), signed_headers(ec.generate_private_key(ec.SECP384R1()))
    public = {"flwr-public-key": good["flwr-public-key"]}
    return {
        "only the public key": public,
        "another's signature": good | {"flwr-signature": stranger["flwr-signature"]},
        "another time": good | {"flwr-timestamp": stranger["flwr-timestamp"]},
        "an unknown key": stranger,
        "no key": {},
    }


@pytest.mark.parametrize("which", range(5))
def test_no_body_is_read_without_a_signature(which, gateway, parsed):
    headers = list(unsigned(gateway.key).values())[which] | {"content-length": str(16_000_000)}
    with gateway.connect_tls() as stranger:
        stranger.sendall(head(headers) + b"\r\n")  # nothing of the body is sent: the answer comes before it
        answer = rest_of(stranger)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer.lower()
    assert gateway.superlink.seen == []


def test_the_time_of_a_body_is_limited(gateway, monkeypatch):
    monkeypatch.setattr("server.hub.gateway.BODY_SECONDS", 0.2)
    with gateway.connect_tls() as site:
        site.sendall(head(signed_headers(gateway.key) | {"content-length": "1000000"}) + b"\r\n" + b"a" * 1000)
        assert rest_of(site).startswith(b"HTTP/1.1 503 ")
    assert gateway.superlink.seen == []


def test_large_bodies_and_answers_pass(gateway, monkeypatch):
    body = bytes(range(256)) * 40_000
    monkeypatch.setattr("tests.superlink.ANSWER", body)
    site = gateway.site()
    site.request("POST", CALL, body, signed_headers(gateway.key))
    answer = site.getresponse()
    assert (answer.status, answer.read() == body) == (418, True)
    assert gateway.superlink.seen[0][3] == body
    assert gateway.call(site) == 418  # nothing is held any more
    site.close()


ODD = {
    "negative length": b"content-length: -1\r\n",
    "two lengths": b"content-length: 1\r\ncontent-length: 2\r\n",
    "a list of lengths": b"content-length: 1, 2\r\n",
    "a length with a sign": b"content-length: +1\r\n",
    "a long length": b"content-length: " + b"9" * 5000 + b"\r\n",
    "a huge length": b"content-length: 99999999999999999999\r\n",
    "length and chunks": b"content-length: 1\r\ntransfer-encoding: chunked\r\n",
    "unknown encoding": b"transfer-encoding: gzip, chunked\r\n",
    "websocket": b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: eA==\r\n",
    "HTTP/2 upgrade": b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n",
    "a header with NUL": b"x: a\x00b\r\n",
    "a header without a name": b": a\r\n",
    "a space before the colon": b"x : a\r\n",
    "no approved key, in Latin-1": b"flwr-public-key: \xff\xfe\r\n",
    "odd time": b"flwr-timestamp: 9999-99-99\r\n",
    "expect": b"expect: 100-continue\r\ncontent-length: 10\r\n",
}  # fmt: skip

ODD_STARTS = {
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04" + bytes(5),
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/3.7": b"GET / HTTP/3.7\r\nhost: x\r\n\r\n",
    "CONNECT": b"CONNECT hub:443 HTTP/1.1\r\nhost: x\r\n\r\n",
    "an absolute address": b"GET http://127.0.0.1/ HTTP/1.1\r\nhost: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "OPTIONS *": b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n",
    "not ASCII": b"GET /\xff HTTP/1.1\r\nhost: x\r\n\r\n",
    "odd escapes": b"GET /%ff%zz HTTP/1.1\r\nhost: x\r\n\r\n",
    "noise": bytes(range(256)) * 8,
    "TLS in TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "pipelined": b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 200,
    "damaged chunks": b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    "a body, then noise": b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\na\x00\x01",
    **{name: LINE + lines + b"\r\n" for name, lines in ODD.items()},
}


@pytest.mark.parametrize("data", ODD_STARTS.values(), ids=ODD_STARTS.keys())
def test_an_odd_request_is_refused_once(data, gateway):
    with gateway.connect_tls() as stranger:
        stranger.sendall(data)
        answer = rest_of(stranger)
    assert answer.count(b"HTTP/1.1 ") <= 1
    assert answer[9:10] in (b"4", b"")
    wait_until(lambda: len(gateway.connections.strangers) == 0)
    assert gateway.superlink.seen == []


@pytest.mark.parametrize("data", ODD_STARTS.values(), ids=ODD_STARTS.keys())
def test_a_stranger_who_leaves_after_an_odd_request_leaves_nothing_behind(data, gateway, monkeypatch):
    monkeypatch.setattr(connection, "STRANGER_SECONDS", 0.3)
    with suppress(OSError), gateway.connect_tls() as stranger:  # on a busy machine the time may be over before
        stranger.sendall(data)
    wait_until(lambda: len(gateway.connections.strangers) == 0)
    assert gateway.superlink.seen == []


@pytest.mark.parametrize(
    "data",
    [b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"\x16\x03\x01\x00\x02\x01\x00", b"\xff" * 99],
    ids=["HTTP", "a short hello", "noise"],
)
def test_what_is_not_tls_ends_the_connection(data, gateway, monkeypatch):
    monkeypatch.setattr(connection, "STRANGER_SECONDS", 0.3)
    with gateway.connect() as stranger:
        stranger.sendall(data)
        assert b"HTTP/" not in rest_of(stranger)
    wait_until(lambda: len(gateway.connections.strangers) == 0)


def test_a_forwarded_address_is_not_believed(gateway):
    site = gateway.site()
    assert gateway.call(site, **{"x-forwarded-for": "192.0.2.1", "forwarded": "for=192.0.2.1"}) == 418
    (found,) = gateway.connections.sites.owner_of
    assert found.client == site.sock.getsockname()
    site.close()


def test_a_list_of_sites_that_cannot_be_read_admits_nobody(running):
    running.logged.clear()
    file = running.hub.path / APPROVED_SITES
    good = file.read_text()
    file.write_text("[")
    for _ in range(3):
        assert running.call_once() == 503
    assert len(running.logged) == 3
    assert all(APPROVED_SITES in line for line in running.logged)
    file.write_text(good)
    running.logged.clear()


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
