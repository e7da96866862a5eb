"""What a hostile hub writes reaches a site's log and terminal as plain text."""

import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace

import httpx
import pytest
from flwr.app import ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.app import make_client_app
from clients.site import hub_contact
from fedbus.transport.messages import CONFIG, Instruction
from tests.clients.test_refusal import SOURCES, digest, fab_of, refusal_of
from tests.forged import FORGED, check_plain
from tests.site_folders import make_site
from tests.tiny import tiny_settings


@pytest.mark.parametrize(
    "change",
    [{"model": FORGED}, {FORGED: 1}, {"sampler": FORGED}, {"arms": [FORGED]}, {"strategy-options": {FORGED: {}}}],
    ids=["model", "key", "value", "arm", "table"],
)
def test_forged_settings_are_refused_and_logged_plainly(change, caplog):
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # the sender, as Flower's processes set it
    config = Instruction(tiny_settings(), 7, (0, 1, 2)).to_config()
    config["settings"] = json.dumps(json.loads(config["settings"]) | change)
    message = Message(RecordDict({CONFIG: ConfigRecord(config)}), 7, MessageType.QUERY)
    message.metadata.__dict__["_message_id"] = "1"
    with caplog.at_level(logging.ERROR, logger="fedbus"):
        reply = make_client_app(lambda context, instruction: pytest.fail("no work begins"))(
            message=message, context=Context(1, 7, {}, RecordDict(), {})
        )
    assert reply.error.reason == "SettingsError; see the site's own log"
    check_plain(caplog.messages[0], 3000)


def test_a_forged_name_in_a_bundle_is_logged_plainly(tmp_path):
    site, fab, said = make_site(tmp_path), fab_of(SOURCES | {f"a\x1b[2Jbad\n{'x' * 5000}.py": b""}), []
    site.approve_any_study(digest(fab))
    assert refusal_of(fab, site, {}, said.append) is not None
    check_plain(said[0], 1000)


@pytest.mark.parametrize("reason", [FORGED, f"CERTIFICATE_VERIFY_FAILED certificate verify failed: {FORGED}"])
def test_a_forged_answer_of_a_hub_is_shown_plainly(reason, tmp_path, monkeypatch):
    def fail(*_: object, **__: object) -> Callable[[], None]:
        raise httpx.ConnectError(reason)

    monkeypatch.setattr(httpx, "stream", fail)
    site = make_site(tmp_path)
    monkeypatch.setattr(hub_contact, "read_ca_certificate", lambda path: b"")
    monkeypatch.setattr(hub_contact, "ssl", SimpleNamespace(create_default_context=lambda cadata: None))
    check_plain(hub_contact.ask_hub(site).problem, 1000)


@pytest.mark.parametrize("date", ["", "yesterday", "Thu, 99 Nov 2026 12:00:00 GMT", FORGED])
def test_a_malformed_time_of_a_hub_is_no_time(date):
    assert hub_contact._read_date(date) is None


def test_a_time_without_a_zone_is_universal_time():
    read = hub_contact._read_date("Thu, 26 Nov 2026 12:00:00 -0000")
    assert read == datetime(2026, 11, 26, 12, tzinfo=UTC)
