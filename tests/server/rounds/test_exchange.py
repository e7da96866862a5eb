"""The arrays of a run's messages as files, and those of replies that sites have sent, honest or not."""

import hashlib

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from fedbus.errors import RunError
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS
from fedbus.transport.stored_arrays import EXCHANGE, StoredArrays
from fedbus.transport.weights import WeightCodec
from server.rounds.exchange import Exchange, open_exchange
from server.rounds.flower_messages import read_update
from tests.grid import LocalGrid
from tests.superlink_state import StateGrid

LAYOUT = {"a": (50,), "b": (3, 4)}
VALUES = np.arange(62, dtype=np.float32)


@pytest.fixture(autouse=True)
def _sender() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as Flower's processes set it


@pytest.fixture
def exchange(tmp_path) -> Exchange:
    made = Exchange(tmp_path)
    made.open(1 << 20)
    return made


def message(arrays: ArrayRecord | None = None, node: int = 1) -> Message:
    content = RecordDict({CONFIG: ConfigRecord({"round": 1})})
    if arrays is not None:
        content[ARRAYS] = arrays
    return Message(content, node, MessageType.TRAIN, ttl=600)


def reply(stored: StoredArrays) -> Message:
    content = RecordDict({ARRAYS: ConfigRecord(stored.to_config()), METRICS: MetricRecord({"n": 1.0})})
    asked = message()
    asked.metadata.__dict__["_message_id"] = "1"
    return Message(content, reply_to=asked)


def arrived(exchange: Exchange, content: bytes, site: str = "north") -> None:
    """Write what the gateway writes when a site sends a file."""
    folder = exchange.folder / "in" / site
    folder.mkdir(exist_ok=True)
    (folder / hashlib.sha256(content).hexdigest()).write_bytes(content)


def test_arrays_of_several_messages_are_written_once(exchange):
    arrays = ArrayRecord({"flat": Array(VALUES)})
    messages = [message(arrays, node) for node in (1, 2)] + [message(None, 3)]
    exchange.detach(messages)
    (file,) = (exchange.folder / "out").iterdir()
    assert file.read_bytes() == arrays["flat"].data
    assert file.name == hashlib.sha256(arrays["flat"].data).hexdigest()
    for found in messages[:2]:
        assert StoredArrays.from_config(found.content[ARRAYS], 1 << 20).digest == file.name
    assert ARRAYS not in messages[2].content
    assert {found.content[EXCHANGE][EXCHANGE] for found in messages} == {exchange.folder.name}
    assert all(found.content[CONFIG]["round"] == 1 for found in messages)


@pytest.mark.parametrize("payload", ["flat", "dict"])
def test_an_update_arrives_whole_and_its_file_is_deleted(payload, exchange):
    named = {"flat": VALUES} if payload == "flat" else {"a": VALUES[:50], "b": VALUES[50:].reshape(3, 4)}
    arrays = {name: Array(values).data for name, values in named.items()}
    arrived(exchange, b"".join(arrays.values()))
    found = reply(StoredArrays.of(arrays))
    exchange.attach(found, ARRAYS, 1 << 20)
    update = read_update(found, WeightCodec(payload, LAYOUT), {})
    assert update["a"].tolist() == VALUES[:50].tolist()
    assert update["b"].tolist() == VALUES[50:].reshape(3, 4).tolist()
    assert not list((exchange.folder / "in" / "north").iterdir())


def test_a_reply_without_arrays_is_left_as_it_is(exchange):
    found = Message(RecordDict({METRICS: MetricRecord({"n": 1.0})}), reply_to=reply(StoredArrays.of({})))
    exchange.attach(found, ARRAYS, 0)
    assert list(found.content) == [METRICS]


def test_arrays_that_are_missing_incomplete_too_large_or_others_are_refused(exchange):
    stored = StoredArrays.of({"flat": b"update"})
    with pytest.raises(RunError, match="missing"):
        exchange.attach(reply(stored), ARRAYS, 1 << 20)
    arrived(exchange, b"update")
    with pytest.raises(RunError, match="6 bytes, more than 5"):
        exchange.attach(reply(stored), ARRAYS, 5)
    (path,) = exchange.folder.glob("in/north/*")
    for content, words in ((b"upd", "incomplete"), (b"updatE", "damaged")):
        path.write_bytes(content)
        with pytest.raises(RunError, match=words):
            exchange.attach(reply(stored), ARRAYS, 1 << 20)
    path.write_bytes(b"update")
    exchange.attach(reply(stored), ARRAYS, 6)


def test_a_site_that_guesses_the_name_of_another_one_s_file_does_not_spoil_it(exchange):
    stored = StoredArrays.of({"flat": b"update"})
    for site, content in (("a-liar", b"x"), ("b-liar", b"UPDATE"), ("north", b"update"), ("z-liar", b"")):
        (exchange.folder / "in" / site).mkdir()
        (exchange.folder / "in" / site / stored.digest).write_bytes(content)
    found = reply(stored)
    exchange.attach(found, ARRAYS, 1 << 20)
    assert found.content[ARRAYS]["flat"].data == b"update"


def test_the_next_message_begins_with_empty_folders_and_its_own_limit(exchange):
    arrived(exchange, b"late")
    exchange.detach([message(ArrayRecord({"flat": Array(VALUES)}))])
    exchange.open(77)
    assert not [path for path in exchange.folder.glob("*/**/*") if path.is_file()]
    assert (exchange.folder / "limit").read_text() == "77"


def test_a_deployed_run_has_a_folder_until_it_ends_and_a_simulation_none(tmp_path, tiny_folder):
    with open_exchange(StateGrid(1), tmp_path / "exchange") as exchange:
        assert exchange is not None
        assert exchange.folder.parent.stat().st_mode & 0o077 == 0
        exchange.open(1)
    assert not list((tmp_path / "exchange").iterdir())
    with open_exchange(LocalGrid(tiny_folder, ["north"]), tmp_path / "none") as exchange:
        assert exchange is None
    assert not (tmp_path / "none").exists()
