"""A site's question for instructions is held until there is one: no pause, and no load of idle sites."""

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from starlette.testclient import TestClient

from fedbus.deployment.keys import fingerprint_of
from server.hub import instructions
from server.hub.body_budget import SMALL_BYTES
from server.hub.gateway import make_gateway
from server.hub.instructions import Pipe
from server.hub.link_state import NODE_BYTES
from tests.signed_calls import signed_headers
from tests.superlink import SuperLink

ASK = "/v1/fleet/pull-messages"
NODE = 2**63 + 5
QUESTION = PullMessagesRequest(node=Node(node_id=NODE)).SerializeToString()
HANGING_SECONDS = 120.0
"""As long as no test takes: a question that is not answered by what a test does would hang until then."""


class _Empty(BaseHTTPRequestHandler):
    """Answers with the instructions that are left, one each, and then with none."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        server = self.server
        body = server.waiting.pop() if server.waiting else b""
        server.asked.release()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    folder = tmp_path_factory.mktemp("superlink")
    server = SuperLink(folder / "ca.crt", folder)
    server.RequestHandlerClass = _Empty
    server.ca = folder / "ca.crt"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def superlink(running, monkeypatch) -> SuperLink:
    monkeypatch.setattr(instructions, "HOLD_SECONDS", HANGING_SECONDS)
    running.waiting, running.asked = [], threading.Semaphore(0)
    return running


@pytest.fixture(scope="module")
def key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


@pytest.fixture
def approved(key) -> set[str]:
    return {fingerprint_of(key.public_key())}


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    with Pipe() as found:
        yield found


@pytest.fixture
def site(superlink, approved, pipe, key) -> Iterator[TestClient]:
    app = make_gateway(superlink.address, superlink.ca, lambda: approved, Path("unused"), pipe.read_end)
    with TestClient(app, headers=signed_headers(key)) as client:
        yield client


def ask(site: TestClient) -> tuple[threading.Thread, list]:
    """Ask in a thread; the list gets the answer."""
    answers: list = []
    thread = threading.Thread(target=lambda: answers.append(site.post(ASK, content=QUESTION)))
    thread.start()
    return thread, answers


def tell(pipe: Pipe, node: int) -> None:
    os.write(pipe.write_end, node.to_bytes(NODE_BYTES, "big"))


def answer_of(asking: tuple[threading.Thread, list]) -> tuple[int, bytes]:
    asking[0].join(HANGING_SECONDS / 2)
    assert asking[1], "the question was not answered"
    return asking[1][0].status_code, asking[1][0].content


def asked(superlink: SuperLink) -> None:
    assert superlink.asked.acquire(timeout=HANGING_SECONDS / 2)


def test_an_instruction_that_waits_is_given_at_once(site, superlink):
    superlink.waiting = [b"instruction"]
    assert answer_of(ask(site)) == (200, b"instruction")


def test_a_question_is_held_until_there_is_an_instruction_for_its_node(site, superlink, pipe):
    asking = ask(site)
    asked(superlink)
    tell(pipe, NODE + 1)
    superlink.waiting = [b"instruction"]
    tell(pipe, NODE)
    assert answer_of(asking) == (200, b"instruction")
    asked(superlink)
    assert not superlink.asked.acquire(blocking=False), "the SuperLink was asked twice"


def test_without_an_instruction_the_answer_comes_after_a_while(site, superlink, monkeypatch):
    monkeypatch.setattr(instructions, "HOLD_SECONDS", 0.01)
    assert answer_of(ask(site)) == (200, b"")


def test_a_site_that_is_revoked_while_its_question_is_held_gets_no_instruction(site, superlink, pipe, approved):
    asking = ask(site)
    asked(superlink)
    superlink.waiting = [b"instruction"]
    approved.clear()
    tell(pipe, NODE)
    assert answer_of(asking)[0] == 401
    assert superlink.waiting == [b"instruction"]


def test_a_hub_that_ends_answers_what_it_holds_and_holds_no_more(site, superlink, pipe):
    asking = ask(site)
    asked(superlink)
    pipe.release_everyone()
    assert answer_of(asking) == (200, b"")
    assert answer_of(ask(site)) == (200, b"")


def test_a_hub_ends_though_its_pipe_is_full(pipe):
    with suppress(BlockingIOError):
        while True:
            os.write(pipe.write_end, bytes(4096))
    pipe.release_everyone()


def test_a_question_that_would_hold_much_memory_is_refused(site, superlink):
    """It is held for seconds, without a share of the memory for bodies."""
    padding = b"\x7a" + b"\x80\x80\x04" + bytes(SMALL_BYTES)  # an unknown field, which the SuperLink accepts
    assert PullMessagesRequest.FromString(QUESTION + padding).node.node_id == NODE
    assert site.post(ASK, content=QUESTION + padding).status_code == 413


@pytest.mark.parametrize("question", [b"", b"\xff"])
def test_a_damaged_question_is_not_held(site, superlink, question):
    assert site.post(ASK, content=question).status_code == 200
