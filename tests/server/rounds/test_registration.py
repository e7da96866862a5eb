"""Waiting for sites, and sending messages again to those that disconnected, and only to those."""

import threading
from collections.abc import Iterable
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.common.constant import ErrorCode

from fedbus.deployment.application import NOT_ALLOWED
from fedbus.errors import RunError, SettingsError
from fedbus.transport.messages import Instruction
from server.rounds import registration
from server.rounds.messaging import Participants
from server.rounds.registration import register_sites, send_until_quorum, wait_for_nodes
from tests.grid import Hook, LocalGrid

NAMES = {101: "east", 102: "north", 103: "south"}


class ChangingGrid(LocalGrid):
    """Sites that connect and disconnect: the connected nodes at each check; the last ones stay connected."""

    def __init__(self, out: Path, names: Iterable[str], connected: list[list[int]], hook: Hook | None = None) -> None:
        super().__init__(out, list(names), hook)
        self.connected = connected

    def get_node_ids(self) -> list[int]:
        return self.connected.pop(0) if len(self.connected) > 1 else self.connected[0]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    for name in ("CONNECTION_POLL_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(registration, name, 0.01)


def wait(
    grid: LocalGrid, participants: Participants, expected: int, quorum: int, timeout: float = 5
) -> tuple[list[int], list[str]]:
    logged: list[str] = []
    return wait_for_nodes(grid, expected, quorum, participants, timeout, threading.Event(), logged.append), logged


def test_missing_sites_are_logged_once_per_change(tmp_path):
    connected = [[], [], [102], [102], [102, 101], [103, 101, 102]]
    nodes, logged = wait(ChangingGrid(tmp_path, NAMES.values(), connected), Participants(approved=NAMES), 3, 2)
    assert nodes == [101, 102, 103]
    assert logged == ["waiting for east, north, south", "waiting for east, south", "waiting for south"]


def test_other_nodes_are_not_counted(tmp_path):
    participants = Participants(approved={101: "east", 102: "north"})
    nodes, logged = wait(ChangingGrid(tmp_path, NAMES.values(), [[999, 101], [999, 101, 102]]), participants, 2, 2)
    assert nodes == [101, 102]
    assert logged == ["waiting for north"]


def test_at_the_time_limit_the_quorum_is_enough(tmp_path):
    grid = ChangingGrid(tmp_path, NAMES.values(), [[101, 103]])
    assert wait(grid, Participants(approved=NAMES), 3, 2, timeout=0.05)[0] == [101, 103]
    with pytest.raises(RunError, match="Only 2 of 3 sites connected within 0 s; north did not") as error:
        wait(grid, Participants(approved=NAMES), 3, 3, timeout=0.05)
    assert "--resume" in error.value.remedy


def test_every_node_is_counted_if_no_site_is_known(tmp_path):
    nodes, logged = wait(ChangingGrid(tmp_path, NAMES.values(), [[], [7, 5]]), Participants(), 2, 2)
    assert (nodes, logged) == ([5, 7], [])


def test_a_stop_ends_the_wait(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        wait_for_nodes(ChangingGrid(tmp_path, NAMES.values(), [[]]), 1, 1, Participants(approved=NAMES), 5, stop)


def recipients(grid: LocalGrid) -> list[str]:
    return [grid.names[message.metadata.dst_node_id] for message in grid.sent]


def make_messages(excluded: Iterable[str]) -> list[Message]:
    content = RecordDict({"config": ConfigRecord({"a": 1})})
    return [Message(content, node, MessageType.QUERY) for node, name in NAMES.items() if name not in excluded]


class Sites:
    """Replies with the given error codes: one per message to a site, and 0 for a reply without an error."""

    def __init__(self, **codes: list[int]) -> None:
        self.codes = codes

    def __call__(self, site: str, message: Message) -> Message:
        left = self.codes.get(site, [])
        code = left.pop(0) if left else 0
        if code:
            return Message(Error(code, f"code {code}"), reply_to=message)
        return Message(RecordDict({"config": ConfigRecord({"site": site})}), reply_to=message)


def send(tmp_path: Path, sites: Sites, quorum: int = 3, limit: float = 5):
    grid, logged = LocalGrid(tmp_path, list(NAMES.values()), sites), []
    participants = Participants(approved=NAMES)
    replies = send_until_quorum(grid, make_messages, participants, quorum, limit, threading.Event(), logged.append)
    return replies, recipients(grid), logged


DISCONNECTED = [ErrorCode.NODE_UNAVAILABLE, ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE]


@pytest.mark.parametrize("code", DISCONNECTED)
def test_only_disconnected_sites_are_sent_the_message_again(code, tmp_path):
    replies, sent_to, logged = send(tmp_path, Sites(north=[code]))
    assert sent_to == ["east", "north", "south", "north"]
    assert logged == ["waiting for north to reconnect"]
    assert list(replies.messages) == ["east", "north", "south"]
    assert {site: message.content["config"]["site"] for site, message in replies.messages.items()} == {
        name: name for name in NAMES.values()
    }
    assert (replies.failures, replies.error_codes) == ({}, {})


def test_a_site_that_disconnects_repeatedly_is_sent_the_message_each_time(tmp_path):
    sites = Sites(south=[ErrorCode.NODE_UNAVAILABLE] * 3, east=[ErrorCode.NODE_UNAVAILABLE])
    replies, sent_to, logged = send(tmp_path, sites)
    assert sent_to == ["east", "north", "south", "east", "south", "south", "south"]
    assert logged == ["waiting for east, south to reconnect", *["waiting for south to reconnect"] * 2]
    assert len(replies.messages) == 3


def test_a_failed_site_is_not_retried_while_others_reconnect(tmp_path):
    sites = Sites(north=[2], south=[ErrorCode.NODE_UNAVAILABLE])
    replies, sent_to, _ = send(tmp_path, sites)
    assert sent_to == ["east", "north", "south", "south"]
    assert list(replies.messages) == ["east", "south"]
    assert (replies.failures, replies.error_codes) == ({"north": "failed: code 2"}, {"north": 2})


def test_failed_sites_are_not_retried(tmp_path):
    replies, sent_to, logged = send(tmp_path, Sites(north=[2], south=[2]))
    assert (sent_to, logged) == (["east", "north", "south"], [])
    assert list(replies.failures) == ["north", "south"]


def test_with_a_quorum_no_site_is_retried(tmp_path):
    replies, sent_to, logged = send(tmp_path, Sites(north=[ErrorCode.NODE_UNAVAILABLE]), quorum=2)
    assert (sent_to, logged) == (["east", "north", "south"], [])
    assert replies.disconnected == ["north"]


def test_at_the_time_limit_the_replies_so_far_are_returned(tmp_path):
    sites = Sites(north=[ErrorCode.NODE_UNAVAILABLE] * 1000)
    replies, sent_to, _ = send(tmp_path, sites, limit=0.3)
    assert list(replies.messages) == ["east", "south"]
    assert replies.disconnected == ["north"]
    assert 2 < len(sent_to) < 1000


def test_without_any_time_left_replies_that_are_there_are_received(tmp_path):
    replies, sent_to, _ = send(tmp_path, Sites(north=[ErrorCode.NODE_UNAVAILABLE]), limit=0)
    assert sent_to == ["east", "north", "south"]
    assert list(replies.messages) == ["east", "south"]
    assert replies.disconnected == ["north"]


def test_a_site_is_asked_until_it_has_approved_the_application(two_site_settings, tiny_folder):
    waiting = [NOT_ALLOWED, NOT_ALLOWED]

    def hook(site: str, message: Message) -> Message:
        if site == "south" and waiting:
            return Message(Error(waiting.pop(), "not yet"), reply_to=message)
        return NotImplemented

    grid, logged = LocalGrid(tiny_folder, ["north", "south"], hook), []
    approved = {101: "north", 102: "south"}
    participants = register_sites(
        grid, approved, Instruction(two_site_settings, 7, ()), 2, 5, threading.Event(), logged.append
    )
    assert logged[:-1] == ["waiting until south approve the study"] * 2
    assert logged[-1].startswith("training images: ")
    assert participants.names == ["north", "south"]


def test_a_site_under_anothers_name_is_refused(two_site_settings, tiny_folder):
    grid = LocalGrid(tiny_folder, ["north", "south"])
    with pytest.raises(RunError, match="The site approved as west calls itself south"):
        register_sites(
            grid, {101: "north", 102: "west"}, Instruction(two_site_settings, 7, ()), 2, 5, threading.Event()
        )


def test_a_site_with_another_image_size_is_refused(two_site_settings, tiny_folder):
    def spoil(site: str, reply: Message) -> None:
        if site == "south":
            reply.content["metrics"]["image-size"] = 64

    grid = LocalGrid(tiny_folder, ["north", "south"], spoil=spoil)
    with pytest.raises(SettingsError, match="south prepared images of 64"):
        register_sites(grid, 2, Instruction(two_site_settings, 7, ()), 2, 5, threading.Event())
