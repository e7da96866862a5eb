"""Requests of strangers that no SuperNode makes: endless, odd or unsigned; with real sockets and TLS."""

import ssl
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from server.hub import connection
from server.hub.connection import MAX_HEAD_BYTES, READ_BYTES
from tests.running_gateway import CALL, LINE, head, rest_of, wait_until
from tests.signed_calls import signed_headers


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
