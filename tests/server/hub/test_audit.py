"""What a hub records before it does it: approvals, runs and models, with the digests of their files."""

import errno
import hashlib
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from fedbus.audit import log as log_module
from fedbus.audit.entry import Entry
from fedbus.deployment.keys import public_line
from fedbus.errors import RunError
from fedbus.runs.folder import record_run, run_id
from fedbus.settings.schema import Settings
from fedbus.transport.messages import TRAINING
from fedbus.transport.study import Study
from server import cli
from server.hub import admission, flwr_cli
from server.hub.admission import approve_site, revoke_site
from server.hub.audit import record_model, recorded_run
from server.hub.folder import HubFolder, init_hub
from server.hub.run import announce_study
from server.hub.run_status import Status, write_status
from server.hub.site_keys import read_public_key
from tests.approved_sites import new_public_key, new_roster
from tests.tiny import tiny_settings

APPLICATION = "a" * 64


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "hub", "hub.example.org", names=("10.0.0.7",))


@pytest.fixture
def settings() -> Settings:
    return tiny_settings(rounds=3)


@pytest.fixture
def out(hub: HubFolder, settings: Settings) -> Path:
    """A run folder whose study has been announced."""
    out = hub.runs / "first"
    record_run(out, settings)
    announce_study(out, Study.of(APPLICATION, TRAINING, settings, new_roster("south", "north")), lambda line: None)
    return out


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "north.pub"
    path.write_text(public_line(new_public_key(), "north"))
    return path


def entries(hub: HubFolder) -> list[Entry]:
    chain = hub.audit.read()
    assert chain.faults == []
    return [entry for entry, _ in chain.entries]


def flower(monkeypatch, answer) -> None:
    monkeypatch.setattr(admission, "is_up", lambda hub: True)
    monkeypatch.setattr(flwr_cli, "register", lambda *_: SimpleNamespace(run=answer))
    monkeypatch.setattr(flwr_cli, "unregister", lambda *_: SimpleNamespace(run=dict))


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_new_hub_records_its_names_and_the_fingerprint_of_its_ca(hub):
    (first,) = entries(hub)
    assert (first.event, first.details["host"], first.details["names"]) == ("init", "hub.example.org", ["10.0.0.7"])
    assert len(first.details["ca"]) == 64


def test_approving_and_revoking_are_recorded_with_name_and_key(hub, key_file, monkeypatch):
    flower(monkeypatch, lambda: {"node-id": 7})
    approve_site(hub, key_file)
    revoke_site(hub, "north")
    key = read_public_key(key_file)[1]
    found = [(entry.event, entry.details["site"], entry.details["key"]) for entry in entries(hub)[1:]]
    assert found == [("approve", "north", key), ("revoke", "north", key)]


def test_an_approval_that_flower_refuses_is_followed_by_its_failure(hub, key_file, monkeypatch):
    def refuse() -> None:
        raise RunError("Flower refused it.", "Start the hub.")

    flower(monkeypatch, refuse)
    with pytest.raises(RunError, match="Flower refused"):
        approve_site(hub, key_file)
    assert [entry.event for entry in entries(hub)] == ["init", "approve", "approval failed"]


def test_on_a_full_disk_no_site_is_approved_and_no_run_starts(hub, key_file, out, monkeypatch):
    flower(monkeypatch, lambda: pytest.fail("it was registered"))
    monkeypatch.setattr(log_module, "_write", full)
    with pytest.raises(RunError, match=r"audit\.jsonl could not be written"):
        approve_site(hub, key_file)
    assert hub.sites() == {}
    with pytest.raises(RunError, match=r"audit\.jsonl could not be written"), recorded_run(hub, out, resume=False):
        pytest.fail("it was started")


def test_on_a_full_disk_a_site_can_still_be_revoked(hub, key_file, monkeypatch):
    flower(monkeypatch, lambda: {"node-id": 7})
    approve_site(hub, key_file)
    monkeypatch.setattr(log_module, "_write", full)
    with pytest.warns(FutureWarning, match="Not recorded: revoke"):
        revoke_site(hub, "north")
    assert hub.sites() == {}
    assert admission.read_public_key(key_file)[1] in hub.revoked()


@pytest.mark.parametrize(
    ("resume", "model", "kind", "verb"),
    [(False, "", "run", "started"), (True, "", "run", "resumed"), (False, "b" * 64, "evaluation", "started")],
)
def test_a_run_is_recorded_with_its_digests_and_its_end(hub, out, resume, model, kind, verb):
    with recorded_run(hub, out, resume=resume, model=model):
        assert entries(hub)[-1].event == f"{kind} {verb}"
        write_status(out, Status("finished", round=3, rounds=3))
    start, end = entries(hub)[-2:]
    assert start.details["settings"] == hashlib.sha256((out / "settings.json").read_bytes()).hexdigest()
    assert (start.details["run"], start.details["code"]) == ("first", run_id(out))
    assert (start.details["application"], start.details["sites"]) == (APPLICATION, ["north", "south"])
    assert start.details["study"] in (out / "study.json").read_text()
    assert start.details.get("model", "") == model
    assert (end.event, end.details) == (
        f"{kind} ended", {"run": "first", "code": run_id(out), "state": "finished", "round": 3}
    )  # fmt: skip


def test_a_run_that_is_ended_or_fails_is_recorded_as_such(hub, out):
    write_status(out, Status("stopped", "ended with Ctrl-C"))
    with pytest.raises(KeyboardInterrupt), recorded_run(hub, out, resume=False):
        raise KeyboardInterrupt
    assert entries(hub)[-1].details["state"] == "stopped"


def test_a_written_model_is_recorded_by_the_digest_of_its_facts(hub, out, tmp_path):
    folder = out / "arms" / "fedavg"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text("{}")
    record_model(out, "fedavg", 7, folder)
    last = entries(hub)[-1]
    assert (last.event, last.details["arm"], last.details["seed"]) == ("model written", "fedavg", 7)
    assert last.details["sha256"] == hashlib.sha256(b"{}").hexdigest()


def test_a_model_outside_of_a_hub_has_no_log(out, tmp_path):
    record_model(tmp_path / "runs" / "other", "fedavg", 7, out)
    assert not (tmp_path / "audit.jsonl").exists()


def test_a_broken_chain_is_named_by_hub_audit_and_when_the_hub_starts_which_goes_on(hub, monkeypatch):
    started = []
    monkeypatch.setattr("server.hub.start.serve", lambda hub, ready: started.append(hub))
    assert CliRunner().invoke(cli.app, ["audit", str(hub.path)]).exit_code == 0
    assert "WARNING" not in CliRunner().invoke(cli.app, ["start", str(hub.path)]).output
    hub.audit.path.write_bytes(hub.audit.path.read_bytes().replace(b"10.0.0.7", b"10.0.0.8"))
    shown = CliRunner().invoke(cli.app, ["audit", str(hub.path)])
    assert shown.exit_code == 1
    assert "line 1 was changed or replaced" in " ".join(shown.output.split())
    printed = CliRunner().invoke(cli.app, ["start", str(hub.path)]).output
    assert "WARNING: line 1 was changed or replaced" in printed
    assert len(started) == 2
    assert hub.audit.read().entries[-1][0].event == "broken chain found"
