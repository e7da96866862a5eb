"""What a hostile site writes reaches the hub's terminal, status, history and report as plain text."""

import json

import pytest
from flwr.app import Error, Message, MessageType

from fedbus.errors import RunError
from server.hub.deployed_run import format_round
from server.hub.run_status import Status, read_status, write_status
from server.hub.site_keys import read_public_key
from tests.forged import FORGED, check_plain
from tests.grid import LocalGrid
from tests.server.rounds.federation import federate, register


def reports_forged_error(site: str, message: Message) -> Message | None:
    if site == "south" and message.metadata.message_type == MessageType.TRAIN:
        return Message(Error(1, FORGED), reply_to=message)
    return NotImplemented


def test_a_forged_error_is_plain_in_the_history_and_in_the_line_of_its_round(two_site_settings, tiny_folder, tmp_path):
    settings = two_site_settings.model_copy(update={"rounds": 1, "quorum": 1})
    said: list[str] = []
    folder = federate(
        settings,
        tiny_folder,
        tmp_path,
        hook=reports_forged_error,
        on_round=lambda line: said.append(format_round(line)),
    )
    check_plain(folder.read_history()[0]["refused"]["south"], 1000)
    check_plain(json.loads((tmp_path / "done.json").read_text())["rounds"][0]["refused"]["south"], 1000)
    check_plain(said[0], 1000)


def test_a_run_that_ends_for_a_forged_error_says_so_plainly(two_site_settings, tiny_folder, tmp_path):
    with pytest.raises(RunError) as raised:
        federate(two_site_settings, tiny_folder, tmp_path, hook=reports_forged_error)
    check_plain(raised.value.problem, 1000)

    def refuses(site: str, message: Message) -> Message | None:
        return Message(Error(1, FORGED), reply_to=message)

    grid = LocalGrid(tiny_folder, list(two_site_settings.sites), refuses)
    with pytest.raises(RunError) as raised:
        register(grid, two_site_settings)
    check_plain(raised.value.problem, 2000)


def test_a_status_is_plain_whatever_ended_the_run(tmp_path):
    write_status(tmp_path, Status("failed", f"ValueError: {FORGED}", remedy=FORGED))
    status = read_status(tmp_path)
    assert status is not None
    check_plain(status.words)
    check_plain(status.remedy)


def test_a_forged_key_file_is_refused_plainly(tmp_path):
    path = tmp_path / "site.pub"
    forged = "\x1b[2Jbad\x07" + "x" * 5000
    for line in (f"{forged} AAAA north", f"ecdsa-sha2-nistp384 AAAA {forged}"):
        path.write_text(line)
        with pytest.raises(RunError) as raised:
            read_public_key(path)
        assert raised.value.problem.isprintable()
        assert len(raised.value.problem) < 1000 + len(str(path))
