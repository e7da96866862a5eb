"""A site and its hub exchange arrays through the real gateway, and a hub that lies or is in trouble."""

import gzip
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients import array_exchange
from clients.array_exchange import ArrayExchange
from clients.site.folder import SiteFolder, init_site
from clients.site.keys import read_private_key
from fedbus.errors import RunError
from fedbus.transport.messages import ARRAYS, CONFIG
from fedbus.transport.stored_arrays import EXCHANGE, PIECE_BYTES, StoredArrays
from server.hub.array_files import ArrayFiles
from server.rounds.exchange import Exchange
from tests.running_gateway import HOST, PATIENCE_SECONDS, RunningGateway
from tests.signed_calls import signed_headers

RUN = "fedbus-1-run"
END = b"-----END CERTIFICATE-----\n"


@pytest.fixture(autouse=True)
def _sender() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as Flower's processes set it


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    with RunningGateway(tmp_path_factory.mktemp("gateway")) as found:
        yield found


@pytest.fixture
def run(gateway) -> Iterator[Exchange]:
    """A running run."""
    exchange = Exchange(gateway.hub.exchange / RUN)
    exchange.folder.mkdir(parents=True, exist_ok=True)
    exchange.open(64 << 20)
    yield exchange
    exchange.open(0)


def make_site(gateway: RunningGateway, root: Path, name: str = "st-mary") -> SiteFolder:
    certificate = root / f"{name}.crt"
    certificate.write_bytes(gateway.hub.ca_certificate.read_bytes().partition(END)[0] + END)
    return init_site(root / name, name, f"{HOST}:{gateway.hub.settings.port}", certificate)


def exchange_of(site: SiteFolder) -> ArrayExchange:
    return ArrayExchange(site, threading.Event())


@pytest.fixture
def site(gateway, tmp_path) -> ArrayExchange:
    """An approved site."""
    folder = make_site(gateway, tmp_path)
    gateway.approve(f"site-{len(gateway.hub.sites())}", read_private_key(folder.key))
    return exchange_of(folder)


def instruction(values: np.ndarray) -> Message:
    content = RecordDict({ARRAYS: ArrayRecord({"flat": Array(values)}), CONFIG: ConfigRecord({"round": 1})})
    message = Message(content, 1, MessageType.TRAIN, ttl=600)
    message.metadata.__dict__["_message_id"] = "1"
    return message


def answer(message: Message, values: np.ndarray) -> Message:
    return Message(RecordDict({ARRAYS: ArrayRecord({"flat": Array(values)})}), reply_to=message)


@pytest.mark.parametrize("number", [3, PIECE_BYTES // 4, PIECE_BYTES // 2 + 7])
def test_a_model_and_its_update_pass_unchanged(number, run, site):
    values = np.random.default_rng(number).standard_normal(number).astype(np.float32)
    message = instruction(values)
    run.detach([message])
    name = site.name_in(message)
    assert (name, EXCHANGE in message.content) == (RUN, False)
    site.fetch(message, name)
    assert np.array_equal(message.content[ARRAYS]["flat"].numpy(), values)
    reply = answer(message, -values)
    site.send(reply, name)
    assert isinstance(reply.content[ARRAYS], ConfigRecord), "the arrays are not in the message"
    run.attach(reply, ARRAYS, 64 << 20)
    assert np.array_equal(reply.content[ARRAYS]["flat"].numpy(), -values)


def test_a_message_without_arrays_needs_no_hub(site, monkeypatch):
    monkeypatch.delattr(ArrayExchange, "_connect")
    message = Message(RecordDict({CONFIG: ConfigRecord({"round": 1})}), 1, MessageType.EVALUATE)
    assert site.name_in(message) == ""
    site.fetch(message, "")
    site.send(Message(RecordDict({}), reply_to=instruction(np.ones(1))), "")


def test_a_site_can_not_read_what_another_one_has_sent(run, site, gateway, tmp_path):
    reply = answer(instruction(np.ones(1)), np.ones(5, np.float32))
    site.send(reply, RUN)
    other = make_site(gateway, tmp_path, "other")
    gateway.approve(f"site-{len(gateway.hub.sites())}", read_private_key(other.key))
    message = instruction(np.ones(1))
    message.content = RecordDict({ARRAYS: reply.content[ARRAYS]})
    with pytest.raises(RunError, match="HTTP 404"):
        exchange_of(other).fetch(message, RUN)


def test_a_site_that_is_not_approved_reads_and_writes_nothing(run, gateway, tmp_path):
    stranger = exchange_of(make_site(gateway, tmp_path))
    message = instruction(np.ones(5, np.float32))
    run.detach([message])
    with pytest.raises(RunError, match="HTTP 401"):
        stranger.fetch(message, RUN)
    with pytest.raises(RunError, match="HTTP 401"):
        stranger.send(answer(message, np.ones(5, np.float32)), RUN)
    assert not list(run.folder.glob("in/*/*"))


@pytest.mark.parametrize("limit", [0, 1 << 10])
def test_more_than_the_run_expects_is_refused(limit, run, site):
    run.open(limit)
    with pytest.raises(RunError, match="HTTP 404"):
        site.send(answer(instruction(np.ones(1)), np.ones(1 << 10, np.float32)), RUN)
    assert not list(run.folder.glob("in/*/*"))


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("GET", f"{RUN}/{'a' * 64}?offset=0", {}, 404), ("GET", f"{RUN}/{'a' * 64}", {}, 400),
        ("GET", f"{RUN}/{'a' * 64}?offset=-1", {}, 400), ("PUT", f"{RUN}/{'a' * 64}?offset=1e3", {}, 400),
        ("PUT", f"{RUN}/{'a' * 64}?offset={'9' * 20}", {}, 400), ("POST", f"{RUN}/{'a' * 64}?offset=0", {}, 405),
        ("PUT", f"{RUN}/{'a' * 64}?offset=0", {"content-length": str(PIECE_BYTES + 1)}, 413),
        ("GET", f"..%2f{RUN}/{'a' * 64}?offset=0", {}, 404), ("DELETE", f"{RUN}/{'a' * 64}?offset=0", {}, 405),
    ],
)  # fmt: skip
def test_other_calls_are_refused(method, path, headers, status, run, gateway):
    connection = gateway.site()
    connection.putrequest(method, f"/v1/arrays/{path}")
    for key, value in (signed_headers(gateway.key) | {"content-length": "0"} | headers).items():
        connection.putheader(key, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_a_disk_that_fails_is_a_reason_to_try_again(run, gateway):
    (run.folder / "out" / ("a" * 64)).mkdir()  # reading it fails
    connection = gateway.site()
    connection.request("GET", f"/v1/arrays/{RUN}/{'a' * 64}?offset=0", headers=signed_headers(gateway.key))
    assert connection.getresponse().status == 503
    assert "can't be read or written" in gateway.logged.pop()
    (run.folder / "out" / ("a" * 64)).rmdir()


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_slow_disk_delays_only_the_call_that_waits_for_it(method, run, gateway, monkeypatch):
    path, waiting, other_answered = f"/v1/arrays/{RUN}/{'a' * 64}?offset=0", threading.Event(), threading.Event()
    answered_meanwhile = list[bool]()

    def wait(*_: object) -> bytes:
        waiting.set()
        answered_meanwhile.append(other_answered.wait(PATIENCE_SECONDS))
        return b"piece"

    monkeypatch.setattr(ArrayFiles, {"GET": "read", "PUT": "write"}[method], wait)
    slow, other = gateway.site(), gateway.site()
    slow.request(method, path, body=b"piece" * (method == "PUT"), headers=signed_headers(gateway.key))
    assert waiting.wait(PATIENCE_SECONDS)
    other.request("GET", path.replace("offset", "start"), headers=signed_headers(gateway.key))
    assert other.getresponse().status == 400
    other_answered.set()
    found = slow.getresponse()
    assert (found.status, found.read()) == (200, b"piece" if method == "GET" else b"")
    assert answered_meanwhile == [True]
    slow.close()
    other.close()


def with_hub(monkeypatch, handle: Callable[[httpx.Request], httpx.Response]) -> list[str]:
    """Replace the hub; return the methods that it was called with."""
    called = list[str]()

    def recorded(request: httpx.Request) -> httpx.Response:
        called.append(request.method)
        return handle(request)

    client = httpx.Client(base_url="https://hub", transport=httpx.MockTransport(recorded))
    monkeypatch.setattr(ArrayExchange, "_connect", lambda self: client)
    monkeypatch.setattr(array_exchange, "FIRST_PAUSE_SECONDS", 0.0)
    return called


def referring(size: int = 6) -> Message:
    message = instruction(np.ones(1))
    stored = StoredArrays(StoredArrays.of({"flat": b"model!"}).digest, ("flat",), (size,))
    message.content = RecordDict({ARRAYS: ConfigRecord(stored.to_config())})
    return message


def test_a_hub_that_is_busy_or_away_is_asked_again(site, monkeypatch):
    answers = iter([503, None, 200])

    def handle(request: httpx.Request) -> httpx.Response:
        status = next(answers)
        if status is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(status, stream=httpx.ByteStream(b"model!" if status == 200 else b"busy"))

    called = with_hub(monkeypatch, handle)
    message = referring()
    site.fetch(message, RUN)
    assert (called, message.content[ARRAYS]["flat"].data) == (["GET"] * 3, b"model!")


def test_a_site_that_leaves_does_not_wait_for_its_hub(site, monkeypatch):
    def handle(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused")

    called = with_hub(monkeypatch, handle)
    site.stop.set()
    with pytest.raises(httpx.HTTPError):
        site.fetch(referring(), RUN)
    assert called == []


def test_a_hub_that_sends_a_byte_now_and_then_is_given_up(site, monkeypatch):
    monkeypatch.setattr(array_exchange, "GIVE_UP_SECONDS", -1.0)
    with_hub(monkeypatch, lambda request: httpx.Response(200, stream=httpx.ByteStream(b"model!")))
    with pytest.raises(httpx.ReadTimeout):
        site.fetch(referring(), RUN)


@pytest.mark.parametrize(
    ("content", "size", "words"),
    [
        (b"model?", 6, "damaged"), (b"model", 6, "damaged"), (b"model!!", 6, "larger than it has said"),
        (b"model!", 3 << 30, "bytes, more than"),
    ],
)  # fmt: skip
def test_what_the_hub_has_not_described_is_refused(content, size, words, site, monkeypatch):
    with_hub(monkeypatch, lambda request: httpx.Response(200, stream=httpx.ByteStream(content)))
    with pytest.raises(RunError, match=words):
        site.fetch(referring(size), RUN)


def test_the_arrays_of_a_message_are_limited_together(site, monkeypatch):
    with_hub(monkeypatch, lambda request: httpx.Response(200, stream=httpx.ByteStream(b"model!")))
    monkeypatch.setattr(array_exchange, "MOST_BYTES", 11)
    message = referring()
    message.content["more"] = message.content[ARRAYS]
    with pytest.raises(RunError, match="6 bytes, more than 5"):
        site.fetch(message, RUN)


@pytest.mark.parametrize("name", ["", "..", "a/b", "x" * 65])
def test_the_hub_can_not_choose_the_path_of_a_call(name, site, monkeypatch):
    called = with_hub(monkeypatch, lambda request: httpx.Response(200))
    with pytest.raises(RunError, match="does not say where"):
        site.fetch(referring(), name)
    assert called == []


def test_a_compressed_answer_is_not_unpacked(site, monkeypatch):
    bomb = gzip.compress(bytes(50 << 20))
    seen = list[str]()

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["accept-encoding"])
        return httpx.Response(200, stream=httpx.ByteStream(bomb), headers={"content-encoding": "gzip"})

    with_hub(monkeypatch, handle)
    with pytest.raises(RunError, match="larger than it has said"):
        site.fetch(referring(), RUN)
    assert seen == ["identity"]
