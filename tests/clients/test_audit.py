"""What a joined site records: every answer before it leaves, by digest and names; without a record nothing leaves."""

import errno
import hashlib
import io
import os
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, MetricRecord, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from typer.testing import CliRunner

from clients import audit, cli, join, worker
from clients.audit import AnswerLog
from clients.site.folder import SiteFolder, open_site_folder
from clients.worker import NO_RECORD, Worker
from fedbus.audit import log as log_module
from fedbus.audit.entry import Entry
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION
from fedbus.errors import RunError
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, TRAINING, Instruction
from fedbus.transport.study import Study
from tests.approved_sites import new_roster
from tests.site_folders import make_site
from tests.tiny import tiny_settings

BUNDLE = b"the application"
APPLICATION = hashlib.sha256(BUNDLE).hexdigest()
STUDY = "5" * 64


@pytest.fixture(autouse=True)
def _sender() -> None:
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # as Flower's processes set it


@pytest.fixture
def site(tmp_path) -> SiteFolder:
    return make_site(tmp_path)


def request(kind: str, **config: object) -> Message:
    content = {"title": "spring-fedavg-7", "run": "0123456789abcdef", "server-round": 3, "task": "training"} | config
    message = Message(RecordDict({CONFIG: ConfigRecord(content)}), 7, kind)
    message.metadata.__dict__["_message_id"] = "1"
    return message


def update() -> RecordDict:
    arrays = {"flat": Array(np.arange(12, dtype=np.float32).reshape(3, 4)), "more": Array(np.ones(5, np.float32))}
    return RecordDict({ARRAYS: ArrayRecord(arrays), METRICS: MetricRecord({"steps": 4, "confusion": [1, 2]})})


class ArraysStay:
    """In place of the exchange with the hub: what would leave stays in the answer."""

    def name_in(self, message: Message) -> str:
        return ""

    def fetch(self, message: Message, run: str) -> None:
        pass

    send = fetch


def sent_by(site: SiteFolder, message: Message, answer: RecordDict | Error, monkeypatch) -> Message:
    """Let the site's worker answer a message; return what it hands to Flower."""
    pushed: list[Message] = []
    monkeypatch.setattr(worker, "push_message", lambda client, reply, context: pushed.append(reply))
    monkeypatch.setattr(worker, "_finish", lambda *_: None)

    def application(message: Message, context: object) -> Message:
        return Message(answer, reply_to=message)

    own = Worker(
        "127.0.0.1:1", b"x" * 32, application, lambda bundle, message: None, AnswerLog(site.audit), ArraysStay(),
        lambda text: None,
    )  # fmt: skip
    task = SimpleNamespace(
        client=None, heartbeat=None, message=message, context=None, bundle=SimpleNamespace(content=BUNDLE)
    )
    own._process(task)
    return pushed[0]


def test_arrays_that_the_hub_refuses_become_an_error_at_once(site, monkeypatch):
    """Otherwise the hub would wait for the reply until its time limit."""

    def refuse(self, reply: Message, run: str) -> None:
        raise RunError("The hub refuses the arrays.", "Ask the coordinator.")

    monkeypatch.setattr(ArraysStay, "send", refuse)
    sent = sent_by(site, request("train"), update(), monkeypatch)
    assert (sent.has_error(), sent.error.reason) == (True, "RunError; see the site's own log")
    assert [entry.event for entry in entries(site)][-2:] == ["update sent", "request failed"]


def entries(site: SiteFolder) -> list[Entry]:
    chain = site.audit.read()
    assert chain.faults == []
    return [entry for entry, _ in chain.entries]


def test_an_update_is_recorded_with_the_digest_of_the_bytes_that_left(site, monkeypatch):
    sent = sent_by(site, request("train"), update(), monkeypatch)
    content = b"".join(array.data for array in sent.content[ARRAYS].values())
    last = entries(site)[-1]
    assert last.event == "update sent"
    assert last.details == {
        "application": APPLICATION, "message": "train", "run": "spring-fedavg-7", "code": "0123456789abcdef",
        "task": "training", "round": 3, "numbers": ["confusion", "steps"], "values": 17, "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }  # fmt: skip
    assert np.array_equal(np.load(io.BytesIO(content)), np.arange(12, dtype=np.float32).reshape(3, 4))


def test_keys_and_shares_are_recorded_with_the_digest_of_their_bytes(site, monkeypatch):
    content = RecordDict({"shares": ConfigRecord({"north": b"ciphertext", "south": b"other"})})
    sent_by(site, request("query.shares"), content, monkeypatch)
    last = entries(site)[-1]
    assert (last.event, last.details["numbers"], last.details["bytes"]) == ("shares sent", ["north", "south"], 15)
    assert last.details["sha256"] == hashlib.sha256(b"ciphertextother").hexdigest()


def test_the_study_that_an_answer_belongs_to_is_recorded(site, monkeypatch):
    settings, roster = tiny_settings(), new_roster("north", "south")
    config = Instruction(settings, settings.seeds[0], (), arm=settings.arms[0], sites=roster).to_config()
    sent_by(site, request("train", **config), update(), monkeypatch)
    assert entries(site)[-1].details["study"] == Study.of(APPLICATION, TRAINING, settings, roster).digest


@pytest.mark.parametrize(
    ("kind", "event"),
    [("query", "registration sent"), ("evaluate", "scores sent"), ("query.other", "query.other answered")],
)
def test_every_kind_of_answer_is_recorded_with_the_names_of_its_numbers(kind, event, site, monkeypatch):
    content = RecordDict({CONFIG: ConfigRecord({"site": "st-mary"}), METRICS: MetricRecord({"groups": 90})})
    sent_by(site, request(kind), content, monkeypatch)
    last = entries(site)[-1]
    assert (last.event, last.details["numbers"]) == (event, ["groups", "site"])
    assert "90" not in str(last.details), "names only"


def test_what_can_not_be_recorded_is_not_sent(site, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = site.audit.path.read_bytes()
    monkeypatch.setattr(log_module, "_write", full)
    sent = sent_by(site, request("train"), update(), monkeypatch)
    assert sent.has_error()
    assert sent.error.reason == NO_RECORD
    assert site.audit.path.read_bytes() == before


@pytest.mark.parametrize(
    ("error", "event"),
    [
        (Error(NOT_ALLOWED, "its operator has not approved study 0123 yet"), "study not approved"),
        (Error(OTHER_VERSION, "another version of FedBUS is installed there"), "application refused"),
        (Error(1, "This site refuses the study: rounds = 500"), "study refused"),
        (Error(1, "ImageError; see the site's own log"), "request failed"),
    ],
)
def test_a_refusal_is_recorded_once_although_the_hub_repeats_its_request(error, event, site):
    log = AnswerLog(site.audit)
    for _ in range(3):
        message = request("train")
        log(APPLICATION, message, Message(error, reply_to=message))
    found = [entry for entry in entries(site) if entry.event == event]
    assert [entry.details["reason"] for entry in found] == [error.reason]


def test_a_hub_that_is_refused_for_ever_new_reasons_does_not_fill_the_disk(site, monkeypatch):
    monkeypatch.setattr(audit, "MOST_REFUSALS", 4)
    log = AnswerLog(site.audit)
    for number in range(20):
        message = request("train")
        log(APPLICATION, message, Message(Error(1, f"rounds = {number}"), reply_to=message))
    found = entries(site)[1:]
    assert len(found) == 4
    assert "further ones are not recorded" in found[-1].event


def test_what_a_hub_writes_into_an_instruction_is_bounded_in_the_log(site):
    message = request("train", title="x" * 5000, run="\x1b[2K\n", task=7, **{"server-round": "three"})
    AnswerLog(site.audit)(APPLICATION, message, Message(Error(1, "y" * 5000), reply_to=message))
    line = site.audit.path.read_bytes().splitlines()[-1]
    assert len(line) < 1500
    assert b"u001b" not in line
    assert b"three" not in line


def test_making_a_site_and_approving_are_recorded_before_they_take_effect(site, monkeypatch):
    site.approve_any_study(APPLICATION)
    site.withdraw(APPLICATION)
    assert [entry.event for entry in entries(site)] == ["init", "approve any study", "withdraw"]
    assert entries(site)[1].details == entries(site)[2].details == {"application": APPLICATION}
    site.approve_study(STUDY, APPLICATION)
    site.withdraw(STUDY)
    assert [entry.event for entry in entries(site)[3:]] == ["approve", "withdraw"]
    assert entries(site)[3].details == {"application": APPLICATION, "study": STUDY}
    assert entries(site)[4].details == {"study": STUDY}


def test_a_broken_chain_is_named_by_site_audit_and_when_the_site_joins_which_goes_on(site, tmp_path, monkeypatch):
    assert CliRunner().invoke(cli.app, ["audit", str(site.path)]).exit_code == 0
    site.audit.path.write_bytes(site.audit.path.read_bytes().replace(b"st-mary", b"st-john"))
    shown = CliRunner().invoke(cli.app, ["audit", str(site.path)])
    assert shown.exit_code == 1
    assert "line 1 was changed or replaced" in " ".join(shown.output.split())

    def reached(*_: object) -> None:
        raise RunError("The hub was asked.", "")

    monkeypatch.setattr(join, "_wait_for_hub", reached)
    lines: list[str] = []
    with pytest.raises(RunError, match="The hub was asked"):
        join.join(site.with_data("class-folders", tmp_path), lines.append)
    assert any(line.startswith("WARNING: line 1 was changed") for line in lines)
    assert site.audit.read().entries[-1][0].event == "broken chain found"


def test_a_site_of_an_earlier_version_gets_a_log_at_its_first_event(site):
    for path in site.path.glob("audit.*"):
        path.unlink()
    older = open_site_folder(site.path)
    assert entries(older) == []
    older.approve_any_study(APPLICATION)
    assert [(entry.number, entry.event) for entry in entries(older)] == [(1, "approve any study")]
