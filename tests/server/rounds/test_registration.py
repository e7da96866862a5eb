"""Waiting for sites, and asking again those that disconnected, and only those."""

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


class Comings(LocalGrid):
    """Sites that come and go: which are there at each question, the last answer for ever."""

    def __init__(self, out: Path, names: Iterable[str], there: list[list[int]], hook: Hook | None = None) -> None:
        super().__init__(out, list(names), hook)
        self.there = there

    def get_node_ids(self) -> list[int]:
        return self.there.pop(0) if len(self.there) > 1 else self.there[0]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch):
    for name in ("CONNECTION_POLL_SECONDS", "RETRY_SECONDS"):
        monkeypatch.setattr(registration, name, 0.01)


def wait(
    grid: LocalGrid, participants: Participants, wanted: int, quorum: int, timeout: float = 5
) -> tuple[list[int], list[str]]:
    said: list[str] = []
    return wait_for_nodes(grid, wanted, quorum, participants, timeout, threading.Event(), said.append), said


def test_it_is_said_for_whom_the_run_waits_and_each_time_once(tmp_path):
    there = [[], [], [102], [102], [102, 101], [103, 101, 102]]
    nodes, said = wait(Comings(tmp_path, NAMES.values(), there), Participants(approved=NAMES), 3, 2)
    assert nodes == [101, 102, 103]
    assert said == ["waiting for east, north, south", "waiting for east, south", "waiting for south"]


def test_a_node_that_is_not_of_the_participants_is_not_counted(tmp_path):
    participants = Participants(approved={101: "east", 102: "north"})
    nodes, said = wait(Comings(tmp_path, NAMES.values(), [[999, 101], [999, 101, 102]]), participants, 2, 2)
    assert nodes == [101, 102]
    assert said == ["waiting for north"]


def test_when_the_time_is_over_the_quorum_is_enough_and_less_is_not(tmp_path):
    grid = Comings(tmp_path, NAMES.values(), [[101, 103]])
    assert wait(grid, Participants(approved=NAMES), 3, 2, timeout=0.05)[0] == [101, 103]
    with pytest.raises(RunError, match="Only 2 of 3 sites connected within 0 s; north did not") as error:
        wait(grid, Participants(approved=NAMES), 3, 3, timeout=0.05)
    assert "--resume" in error.value.remedy


def test_whoever_comes_is_counted_where_no_site_is_known(tmp_path):
    nodes, said = wait(Comings(tmp_path, NAMES.values(), [[], [7, 5]]), Participants(), 2, 2)
    assert (nodes, said) == ([5, 7], [])


def test_a_stop_ends_the_waiting(tmp_path):
    stop = threading.Event()
    stop.set()
    with pytest.raises(KeyboardInterrupt):
        wait_for_nodes(Comings(tmp_path, NAMES.values(), [[]]), 1, 1, Participants(approved=NAMES), 5, stop)


def asked(grid: LocalGrid) -> list[str]:
    return [grid.names[message.metadata.dst_node_id] for message in grid.sent]


def make(answered: Iterable[str]) -> list[Message]:
    content = RecordDict({"config": ConfigRecord({"a": 1})})
    return [Message(content, node, MessageType.QUERY) for node, name in NAMES.items() if name not in answered]


class Sites:
    """Answers as told: a list of codes for each site, one a question; 0 is an answer."""

    def __init__(self, **codes: list[int]) -> None:
        self.codes = codes

    def __call__(self, site: str, message: Message) -> Message:
        left = self.codes.get(site, [])
        code = left.pop(0) if left else 0
        if code:
            return Message(Error(code, f"code {code}"), reply_to=message)
        return Message(RecordDict({"config": ConfigRecord({"site": site})}), reply_to=message)


def exchanged(tmp_path: Path, sites: Sites, quorum: int = 3, limit: float = 5):
    grid, said = LocalGrid(tmp_path, list(NAMES.values()), sites), []
    participants = Participants(approved=NAMES)
    replies = send_until_quorum(grid, make, participants, quorum, limit, threading.Event(), said.append)
    return replies, asked(grid), said


AWAY = [ErrorCode.NODE_UNAVAILABLE, ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE]


@pytest.mark.parametrize("code", AWAY)
def test_who_went_away_is_asked_again_and_the_others_are_not(code, tmp_path):
    replies, questions, said = exchanged(tmp_path, Sites(north=[code]))
    assert questions == ["east", "north", "south", "north"]
    assert said == ["waiting for north to reconnect"]
    assert list(replies.messages) == ["east", "north", "south"]
    assert {site: message.content["config"]["site"] for site, message in replies.messages.items()} == {
        name: name for name in NAMES.values()
    }
    assert (replies.failures, replies.error_codes) == ({}, {})


def test_who_goes_away_again_is_asked_again(tmp_path):
    sites = Sites(south=[ErrorCode.NODE_UNAVAILABLE] * 3, east=[ErrorCode.NODE_UNAVAILABLE])
    replies, questions, said = exchanged(tmp_path, sites)
    assert questions == ["east", "north", "south", "east", "south", "south", "south"]
    assert said == ["waiting for east, south to reconnect", *["waiting for south to reconnect"] * 2]
    assert len(replies.messages) == 3


def test_who_failed_otherwise_is_not_asked_again_and_its_failure_is_kept(tmp_path):
    sites = Sites(north=[2], south=[ErrorCode.NODE_UNAVAILABLE])
    replies, questions, _ = exchanged(tmp_path, sites)
    assert questions == ["east", "north", "south", "south"]
    assert list(replies.messages) == ["east", "south"]
    assert (replies.failures, replies.error_codes) == ({"north": "failed: code 2"}, {"north": 2})


def test_nobody_is_asked_again_for_an_error_of_its_own(tmp_path):
    replies, questions, said = exchanged(tmp_path, Sites(north=[2], south=[2]))
    assert (questions, said) == (["east", "north", "south"], [])
    assert list(replies.failures) == ["north", "south"]


def test_with_the_quorum_nobody_is_waited_for(tmp_path):
    replies, questions, said = exchanged(tmp_path, Sites(north=[ErrorCode.NODE_UNAVAILABLE]), quorum=2)
    assert (questions, said) == (["east", "north", "south"], [])
    assert replies.disconnected == ["north"]


def test_when_the_time_is_over_the_answers_so_far_are_handed_back(tmp_path):
    sites = Sites(north=[ErrorCode.NODE_UNAVAILABLE] * 1000)
    replies, questions, _ = exchanged(tmp_path, sites, limit=0.3)
    assert list(replies.messages) == ["east", "south"]
    assert replies.disconnected == ["north"]
    assert 2 < len(questions) < 1000


def test_a_site_that_must_still_approve_is_asked_until_it_has(two_site_settings, tiny_folder):
    waiting = [NOT_ALLOWED, NOT_ALLOWED]

    def hook(site: str, message: Message) -> Message:
        if site == "south" and waiting:
            return Message(Error(waiting.pop(), "not yet"), reply_to=message)
        return NotImplemented

    grid, said = LocalGrid(tiny_folder, ["north", "south"], hook), []
    approved = {101: "north", 102: "south"}
    participants = register_sites(
        grid, approved, Instruction(two_site_settings, 7, ()), 2, 5, threading.Event(), said.append
    )
    assert said == ["waiting until south approve the application"] * 2
    assert participants.names == ["north", "south"]


def test_a_site_under_anothers_name_is_refused(two_site_settings, tiny_folder):
    grid = LocalGrid(tiny_folder, ["north", "south"])
    with pytest.raises(RunError, match="The site approved as west calls itself south"):
        register_sites(
            grid, {101: "north", 102: "west"}, Instruction(two_site_settings, 7, ()), 2, 5, threading.Event()
        )


def test_a_site_that_prepared_something_else_is_refused(two_site_settings, tiny_folder):
    def spoil(site: str, reply: Message) -> None:
        if site == "south":
            reply.content["metrics"]["image-size"] = 64

    grid = LocalGrid(tiny_folder, ["north", "south"], spoil=spoil)
    with pytest.raises(SettingsError, match="south prepared images of 64"):
        register_sites(grid, 2, Instruction(two_site_settings, 7, ()), 2, 5, threading.Event())
