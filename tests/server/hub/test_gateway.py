"""The gateway before a SuperLink that records what reaches it: the calls of approved sites, and nothing else."""

import base64
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from flwr.common.constant import FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import Message, Metadata
from flwr.proto.node_pb2 import Node
from flwr.superlink.main import create_app
from starlette.applications import Starlette
from starlette.testclient import TestClient

from fedbus.deployment.keys import fingerprint_of
from server.hub import gateway
from server.hub.certificates import make_ca
from server.hub.gateway import FLEET_CALLS, make_gateway
from tests.signed_calls import signed_headers
from tests.superlink import ANSWER, SuperLink

NODE = 2**63 + 5
NO_ARRAYS = Path("unused")
GOOD = "/v1/fleet/pull-messages"
PUSH = "/v1/fleet/push-messages"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SuperLink, Path]]:
    folder = tmp_path_factory.mktemp("superlink")
    server = SuperLink(folder / "ca.crt", folder)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server, folder / "ca.crt"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def superlink(running) -> SuperLink:
    running[0].seen.clear()
    return running[0]


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def approved(key) -> set[str]:
    """The approved fingerprints; a test may change them."""
    return {fingerprint_of(key.public_key())}


@pytest.fixture
def site(superlink, running, approved, key) -> Iterator[TestClient]:
    """An approved site's calls."""
    app = make_gateway(superlink.address, running[1], lambda: approved, NO_ARRAYS)
    with TestClient(app, headers=signed_headers(key), raise_server_exceptions=True) as client:
        yield client


def public_header(key: PublicKeyTypes) -> str:
    return base64.b64encode(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)).decode()


def other_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def paths_of_flower(app: Starlette) -> list[str]:
    """Every path at which a real SuperLink answers."""
    return sorted({*app.openapi()["paths"], "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc", "/"})


ALL_PATHS = paths_of_flower(create_app())
OPEN = {f"/v1/fleet/{call}" for call in FLEET_CALLS}


def test_flowers_own_list_of_calls_is_tested():
    assert set(ALL_PATHS) >= OPEN
    shut = set(ALL_PATHS) - OPEN
    assert len(shut) > 60
    assert {"/v1/fleet/register-node", "/v1/fleet/unregister-node", "/v1/control/start-run", "/health"} <= shut
    assert {"/v1/control/register-node", "/v1/runtime/push-messages"} <= shut


@pytest.mark.parametrize("path", sorted(set(ALL_PATHS) - OPEN))
def test_every_other_path_is_refused(path, site, superlink):
    for method in ("POST", "GET", "PUT", "DELETE", "OPTIONS", "HEAD"):
        assert site.request(method, path).status_code == 404, method
    assert superlink.seen == []


@pytest.mark.parametrize("call", FLEET_CALLS)
def test_a_sites_calls_pass_only_by_post(call, site, superlink):
    path = f"/v1/fleet/{call}"
    for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD"):
        assert site.request(method, path).status_code == 405, method
    assert superlink.seen == []
    body = pushed() if call == "push-messages" else b"\x08\x01\x00\xff"
    answer = site.post(path, content=body)
    assert (answer.status_code, answer.content) == (418, ANSWER)
    assert [(method, found, content) for method, found, _, content in superlink.seen] == [("POST", path, body)]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/fleet", "/v1/fleet/", f"{GOOD}/x", "/v1//fleet/pull-messages", f"/x{GOOD}", "/v1/fleet/PULL-MESSAGES",
        "/v1/fleet/../control/start-run", "/v1/fleet/pull-messages/../register-node", "/v1/fleet/%2e%2e/control/x",
        "/v1/fleet/pull-messages%00", "/v1/fleet/pull-messages;x", "/v1/fleet/%2fpull-messages",
    ],
)  # fmt: skip
def test_a_similar_path_is_refused(path, site, superlink):
    site.post(path)
    assert not [seen for seen in superlink.seen if seen[1] not in OPEN]


def test_a_trailing_slash_is_not_redirected(site, superlink):
    assert site.post(f"{GOOD}/", follow_redirects=False).status_code in (307, 404)
    assert superlink.seen == []


@pytest.mark.parametrize("host", ["x/v1/control/start-run?", "x/v1/control/start-run#", "a\\b", "[", "", "ü"])
def test_host_and_query_do_not_change_the_destination_of_a_call(host, site, superlink):
    answer = site.post(f"{GOOD}?x=/v1/control/start-run", headers={"host": host.encode("latin-1")})
    assert answer.status_code == 418
    assert [seen[1] for seen in superlink.seen] == [GOOD]
    assert superlink.seen[0][2]["host"] == superlink.address


@pytest.mark.parametrize("call", FLEET_CALLS)
def test_an_unapproved_key_reaches_no_call(call, site, superlink):
    assert site.post(f"/v1/fleet/{call}", headers=signed_headers(other_key())).status_code == 401
    assert superlink.seen == []


def malformed_keys(key) -> dict[str, bytes]:
    good = public_header(key.public_key()).encode()
    pem = base64.b64decode(good)
    strange = {
        "another kind": ed25519.Ed25519PrivateKey.generate().public_key(),
        "a curve without a name at OpenSSH": ec.generate_private_key(ec.SECP256K1()).public_key(),
        "another curve": ec.generate_private_key(ec.SECP256R1()).public_key(),
    }
    unknown = b"-----BEGIN PUBLIC KEY-----\nMAswBQYDKgMEAwIAAQ==\n-----END PUBLIC KEY-----\n"
    return {
        "empty": b"", "not base64": b"!!!", "not ASCII": b"\xff\xfe", "not PEM": base64.b64encode(b"key"),
        "cut": good[: len(good) // 2], "plain PEM": pem.replace(b"\n", b" "), "twice": good + good,
        "an unknown kind": base64.b64encode(unknown), "a fingerprint": fingerprint_of(key.public_key()).encode(),
        "long": b"A" * 60_000, "private words": base64.b64encode(pem.replace(b"PUBLIC", b"PRIVATE")),
        **{name: public_header(each).encode() for name, each in strange.items()},
    }  # fmt: skip


def test_a_malformed_key_is_refused(site, superlink, key):
    for name, value in malformed_keys(key).items():
        assert site.post(GOOD, headers={"flwr-public-key": value}).status_code == 401, name
    assert superlink.seen == []


def test_a_call_without_a_key_is_refused(superlink, running, approved):
    with TestClient(make_gateway(superlink.address, running[1], lambda: approved, NO_ARRAYS)) as stranger:
        assert stranger.post(GOOD).status_code == 401
    assert superlink.seen == []


def test_an_empty_key_is_refused_even_if_no_site_is_approved(site, superlink, approved):
    approved.clear()
    assert site.post(GOOD, headers={"flwr-public-key": ""}).status_code == 401


def test_revoking_takes_effect_at_the_next_call(site, superlink, approved, key):
    assert site.post(GOOD).status_code == 418
    approved.clear()
    assert site.post(GOOD).status_code == 401
    approved.add(fingerprint_of(key.public_key()))
    assert site.post(GOOD).status_code == 418
    assert len(superlink.seen) == 2


def test_of_two_keys_the_checked_one_is_forwarded(site, superlink, key):
    mine, other = public_header(key.public_key()), public_header(other_key().public_key())
    del site.headers["flwr-public-key"]
    assert site.post(GOOD, headers=[("flwr-public-key", mine), ("flwr-public-key", other)]).status_code == 418
    assert superlink.seen[0][2]["flwr-public-key"] == mine
    assert site.post(GOOD, headers=[("flwr-public-key", other), ("flwr-public-key", mine)]).status_code == 401


def test_only_listed_headers_pass_in_either_direction(site, superlink):
    sent = {
        "flwr-package-version": "1.41.0",
        "flwr-task-token": "t", "flwr-superexec-token": "t", "authorization": "Bearer t", "cookie": "a=b",
        "x-forwarded-for": "127.0.0.1", "flwr-account-id": "1", "flwr-access-token": "t",
    }  # fmt: skip
    answer = site.post(GOOD, headers=sent)
    through = superlink.seen[0][2]
    assert through["flwr-package-version"] == "1.41.0"
    for name in ("flwr-public-key", "flwr-signature", "flwr-timestamp"):
        assert through[name] == site.headers[name]
    assert through["content-type"] == "application/x-protobuf"
    assert "t" not in through.values()
    assert "Bearer t" not in through.values()
    assert not {"cookie", "x-forwarded-for", "flwr-account-id", "authorization"} & through.keys()
    assert answer.headers["content-type"] == "application/x-protobuf"
    assert "x-inside" not in answer.headers


@pytest.mark.parametrize("value", [b"\xff\xfe\x80", "ü".encode(), b"", b" ", b"a" * 60_000], ids=len)
def test_odd_header_values_pass_unchanged_or_are_refused(value, site, superlink):
    answer = site.post(GOOD, headers={"flwr-package-version": value})
    assert answer.status_code in (418, 503)
    assert site.post(GOOD).status_code == 418


def pushed(source: int = NODE, reply_to: str = "abc", node: int = NODE, more: tuple[Metadata, ...] = ()) -> bytes:
    good = Metadata(src_node_id=source, dst_node_id=1, reply_to_message_id=reply_to)
    messages = [Message(metadata=each) for each in (good, *more)]
    return PushMessagesRequest(node=Node(node_id=node), messages_list=messages).SerializeToString()


FORGED = {
    "another's number": pushed(source=NODE + 1),
    "the hub's number": pushed(source=1),
    "no number": pushed(source=0),
    "not a reply": pushed(reply_to=""),
    "the second forged": pushed(more=(Metadata(src_node_id=7, reply_to_message_id="abc"),)),
    "the second an instruction": pushed(more=(Metadata(src_node_id=NODE, dst_node_id=9),)),
    "no metadata": PushMessagesRequest(node=Node(node_id=NODE), messages_list=[Message()]).SerializeToString(),
    "no node": PushMessagesRequest(
        messages_list=[Message(metadata=Metadata(src_node_id=NODE, reply_to_message_id="a"))]
    ).SerializeToString(),
    "not protobuf": b"\xff\xff\xff\xff",
    "JSON": b'{"node": {"node_id": 1}}',
    "cut": pushed()[:-1],
}


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED.keys())
def test_a_site_can_not_send_for_another_or_give_an_instruction(body, site, superlink):
    assert site.post(PUSH, content=body).status_code == 403
    assert superlink.seen == []


def test_a_sites_own_replies_pass_unchanged(site, superlink):
    two = pushed(more=(Metadata(src_node_id=NODE, dst_node_id=1, reply_to_message_id="d"),))
    for body in (pushed(), two):
        assert site.post(PUSH, content=body).status_code == 418
    assert [seen[3] for seen in superlink.seen] == [pushed(), two]


def test_a_large_body_passes_and_a_larger_one_does_not(site, superlink, monkeypatch):
    monkeypatch.setattr(gateway, "MAX_BODY_BYTES", 100_000)
    path = "/v1/fleet/push-object"
    assert site.post(path, content=b"x" * 100_000).status_code == 418
    assert len(superlink.seen[0][3]) == 100_000
    assert site.post(path, content=b"x" * 100_001).status_code == 413
    assert len(superlink.seen) == 1


def test_a_body_without_a_length_is_refused(site, superlink):
    assert site.post("/v1/fleet/push-object", content=iter([b"x"] * 2)).status_code == 411
    assert superlink.seen == []


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", GOOD), ("POST", "/v1/fleet/push-object"), ("PUT", f"/v1/arrays/x/{'a' * 64}?offset=0")],
)
def test_a_body_in_chunks_is_refused_whatever_length_it_states(method, path, site, superlink):
    """HTTP lets the chunks win: a stated length of 0 would let any size into the gateway's memory."""
    headers = {"content-length": "0", "transfer-encoding": "chunked"}
    assert site.request(method, path, headers=headers, content=b"x").status_code == 411
    assert superlink.seen == []


def test_flowers_chunks_pass():
    assert gateway.MAX_BODY_BYTES > 2 * FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE


@pytest.mark.parametrize("body", [b"", b"\xff" * 50, b"{}", b"\x00", "ü".encode()], ids=repr)
def test_the_gateway_parses_no_other_call(body, site, superlink):
    assert site.post(GOOD, content=body).status_code == 418
    assert superlink.seen[0][3] == body


def test_without_a_superlink_a_site_is_told_to_retry(running, approved, key):
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        app = make_gateway(f"127.0.0.1:{taken.getsockname()[1]}", running[1], lambda: approved, NO_ARRAYS)
        with TestClient(app, headers=signed_headers(key)) as client:
            assert client.post(GOOD).status_code == 503


def test_a_superlink_with_another_ca_is_not_called(superlink, approved, key, tmp_path):
    other = tmp_path / "other.crt"
    other.write_bytes(make_ca("127.0.0.1").certificate_pem)
    with TestClient(
        make_gateway(superlink.address, other, lambda: approved, NO_ARRAYS), headers=signed_headers(key)
    ) as client:
        assert client.post(GOOD).status_code == 503
    assert superlink.seen == []
