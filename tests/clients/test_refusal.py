"""A site runs an application that is approved for any study only if it is installed; see also `consent`."""

import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, Message, MessageType, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from clients.consent.refusal import Consent
from clients.flower_internals import Fab
from clients.site.folder import SiteFolder
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION
from fedbus.deployment.roster import roster_line
from fedbus.transport.messages import CONFIG, Instruction
from tests.approved_sites import new_roster
from tests.site_folders import make_site
from tests.tiny import tiny_settings

SOURCES = {"fedbus/a.py": b"a = 1\n", "clients/b.py": b"b = 2\n"}
OTHERS = new_roster("north", "south")
INSTALLED = {name: hashlib.sha256(content).hexdigest() for name, content in SOURCES.items()}


def fab_of(files: dict[str, bytes]) -> Fab:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    # The digest that the hub states is wrong on purpose: a site must compute it from the content.
    return Fab("0" * 64, buffer.getvalue(), {})


def message_of(config: Mapping[str, Any] | None = None) -> Message:
    """What a hub sends: an instruction, or nothing that a site can read."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1  # the sender, as Flower's processes set it
    return Message(RecordDict({CONFIG: ConfigRecord(dict(config))} if config else {}), 7, MessageType.QUERY)


def refusal_of(fab: Fab, site: SiteFolder, installed: dict[str, str], log: Callable[[str], object]) -> Error | None:
    """The answer to the first message of a study of this site and two others."""
    sites = (roster_line("st-mary", site.public_key.read_text()), *OTHERS)
    instruction = Instruction(tiny_settings(arms=("fedavg",), seeds=(7,), sites={}), 7, (), arm="fedavg", sites=sites)
    return Consent(site, installed, log).refusal_of(fab, message_of(instruction.to_config()))


def digest(fab: Fab) -> str:
    return hashlib.sha256(fab.content).hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path)


def test_an_application_that_is_approved_for_any_study_and_installed_is_run(site):
    fab, said = fab_of(SOURCES), []
    site.approve_any_study(digest(fab))
    assert refusal_of(fab, site, INSTALLED, said.append) is None
    assert said == []


def test_a_study_that_is_not_approved_is_refused_and_the_log_says_how_to_approve(site):
    fab, said = fab_of(SOURCES), []
    site.approve_any_study("0" * 64)  # the digest that the hub states
    refusal = refusal_of(fab, site, INSTALLED, said.append)
    assert refusal is not None
    assert refusal.code == NOT_ALLOWED
    (stored,) = site.studies.iterdir()
    assert stored.stem[:16] in refusal.reason
    assert any(f"fedbus site approve {site.path} {stored.stem}" in line for line in said)


def test_approving_and_withdrawing_take_effect_at_once(site):
    fab = fab_of(SOURCES)
    assert refusal_of(fab, site, INSTALLED, print).code == NOT_ALLOWED
    site.approve_any_study(digest(fab))
    assert refusal_of(fab, site, INSTALLED, print) is None
    site.withdraw(digest(fab))
    assert refusal_of(fab, site, INSTALLED, print).code == NOT_ALLOWED


@pytest.mark.parametrize(
    "files", [SOURCES | {"fedbus/a.py": b"a = 2\n"}, {"fedbus/a.py": b"a = 1\n"}, SOURCES | {"server/c.py": b""}]
)
def test_an_approved_application_of_another_version_is_refused_and_the_log_names_a_file(files, site):
    fab, said = fab_of(files), []
    site.approve_any_study(digest(fab))
    refusal = refusal_of(fab, site, INSTALLED, said.append)
    assert refusal is not None
    assert refusal.code == OTHER_VERSION
    changed = next(name for name in sorted(SOURCES | files) if SOURCES.get(name) != files.get(name))
    assert changed in said[0]


def test_an_approved_bundle_that_is_not_a_zip_file_is_refused(site):
    fab = Fab("0" * 64, b"not a zip file", {})
    site.approve_any_study(digest(fab))
    assert refusal_of(fab, site, INSTALLED, print).code == OTHER_VERSION


def test_a_refusal_names_no_path_and_no_file(site):
    other = fab_of(SOURCES | {"fedbus/a.py": b"a = 2\n"})
    reasons = [refusal_of(other, site, INSTALLED, print).reason]
    site.approve_any_study(digest(other))
    reasons.append(refusal_of(other, site, INSTALLED, print).reason)
    for reason in reasons:
        assert "/" not in reason
        assert ".py" not in reason
        assert str(site.path) not in reason
