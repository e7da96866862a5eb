"""A simulation's messages: the same in the same order as Flower finds by searching all, delivered when sent."""

import random
import threading
import time

import pytest
from flwr.app import ConfigRecord, Message, MessageType, RecordDict
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.server.superlink.linkstate.in_memory_linkstate import RunRecord
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

from server.rounds import delivery
from server.rounds.delivery import deliver_at_once, wait_for_reply
from tests.grid import LocalGrid


class Simulation:
    """The state of a simulation of Flower, with nodes and one run."""

    def __init__(self, nodes: int, *, at_once: bool) -> None:
        factory = LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory())
        self.state = factory.state()
        run = Run.create_empty(1)
        run.primary_task_id, run.federation_id = 1, NOOP_FEDERATION_ID
        self.state.task_store[1] = Task(task_id=1, run_id=1)
        self.state.run_ids[1] = RunRecord(run=run)
        self.grid = InMemoryGrid(factory)
        self.grid._run = run
        self.nodes: list[int] = [
            self.state.create_node(NOOP_FLWR_AID, NOOP_ACCOUNT_NAME, f"key {number}".encode(), 3600)
            for number in range(nodes)
        ]
        for node in self.nodes:
            self.state.acknowledge_node_heartbeat(node, 3600)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        if at_once:
            deliver_at_once(self.grid)

    def push(self, node: int, number: int, *, expired: bool = False) -> None:
        content = RecordDict({"config": ConfigRecord({"number": number})})
        message = Message(content, self.nodes[node], MessageType.TRAIN, ttl=3600)
        assert self.grid.push_messages([message])
        if expired:
            message.metadata.__dict__["_created_at"] -= 7200

    def fetch(self, node: int, limit: int | None) -> list[int]:
        messages = self.state.get_message_ins(self.nodes[node], limit)
        assert all(message.metadata.delivered_at for message in messages)
        return [int(message.content["config"]["number"]) for message in messages]


@pytest.fixture
def no_wait(monkeypatch):
    """Let a question find what is there, without waiting for messages."""
    monkeypatch.setattr(delivery, "STOP_SECONDS", 0)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("no_wait")
def test_every_node_gets_the_messages_that_flower_would_give_it(seed):
    generator = random.Random(seed)
    plain, prompt = (Simulation(5, at_once=at_once) for at_once in (False, True))
    fetched = 0
    for number in range(120):
        node, limit = generator.randrange(5), generator.choice([1, 1, 2, None])
        if generator.random() < 0.5:
            expired = generator.random() < 0.3
            plain.push(node, number, expired=expired)
            prompt.push(node, number, expired=expired)
        else:
            found = prompt.fetch(node, limit)
            assert found == plain.fetch(node, limit)
            fetched += len(found)
    assert fetched > 20
    assert prompt.state.num_message_ins() >= fetched


@pytest.mark.usefixtures("no_wait")
def test_a_message_that_was_deleted_is_not_delivered():
    simulation = Simulation(1, at_once=True)
    simulation.push(0, 1)
    simulation.push(0, 2)
    simulation.state.delete_messages({next(iter(simulation.state.message_ins_store))})
    assert simulation.fetch(0, 1) == [2]
    assert simulation.fetch(0, 1) == []


@pytest.mark.usefixtures("no_wait")
def test_a_message_to_a_node_that_does_not_exist_is_refused_as_before():
    simulation = Simulation(1, at_once=True)
    message = Message(RecordDict(), simulation.nodes[0] + 1, MessageType.TRAIN, ttl=60)
    message.metadata.__dict__["_message_id"] = "to nobody"
    assert simulation.state.store_message_ins(message) is None
    assert simulation.fetch(0, None) == []


def test_another_grid_is_left_unchanged(tmp_path):
    grid = LocalGrid(tmp_path, ["a"])
    before = dict(vars(grid))
    deliver_at_once(grid)
    assert vars(grid) == before


def test_the_first_question_of_a_turn_waits_until_all_messages_are_stored(monkeypatch):
    monkeypatch.setattr(delivery, "STOP_SECONDS", 600)  # a question that is not woken ends the test by its time limit
    simulation, found = Simulation(3, at_once=True), []

    def take_a_turn() -> None:
        found.extend(simulation.fetch(node, 1) for node in range(3))

    turn = threading.Thread(target=take_a_turn)
    turn.start()
    contents = [RecordDict({"config": ConfigRecord({"number": number})}) for number in range(3)]
    messages = [
        Message(content, node, MessageType.TRAIN, ttl=3600)
        for content, node in zip(contents, simulation.nodes, strict=True)
    ]
    simulation.grid.push_messages(messages)
    turn.join()
    assert found == [[0], [1], [2]]


def test_a_reply_wakes_the_thread_that_waits_for_it(monkeypatch):
    monkeypatch.setattr(delivery, "STOP_SECONDS", 600)
    simulation = Simulation(1, at_once=True)
    simulation.push(0, 1)
    (message,) = simulation.state.get_message_ins(simulation.nodes[0], 1)
    reply = Message(RecordDict(), reply_to=message)
    reply.metadata.__dict__["_message_id"] = "reply"
    waiting = threading.Thread(target=wait_for_reply, args=(simulation.grid, 0))
    waiting.start()
    assert simulation.state.store_message_res(reply) == "reply"
    waiting.join()
    (found,) = simulation.grid.pull_messages([message.metadata.message_id])
    assert found.metadata.message_id == "reply"


def test_a_wait_ends_without_a_reply(tmp_path, monkeypatch):
    monkeypatch.setattr(delivery, "STOP_SECONDS", 0.01)
    for grid in (Simulation(1, at_once=True).grid, LocalGrid(tmp_path, ["a"])):
        started = time.monotonic()
        wait_for_reply(grid, 0.01)
        assert time.monotonic() - started >= 0.01
