"""A site works for what its operator has approved and has installed, and for nothing else."""

import hashlib
import io
import zipfile
from pathlib import Path

import pytest

from clients.flower_internals import Fab
from clients.join import refusal_of
from clients.site.folder import SiteFolder
from fedbus.deployment.application import NOT_ALLOWED, OTHER_VERSION
from tests.site_folders import make_site

SOURCES = {"fedbus/a.py": b"a = 1\n", "clients/b.py": b"b = 2\n"}
INSTALLED = {name: hashlib.sha256(content).hexdigest() for name, content in SOURCES.items()}


def fab_of(files: dict[str, bytes]) -> Fab:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    # What the hub says of the bundle is not to be believed: only its bytes are looked at.
    return Fab("0" * 64, buffer.getvalue(), {})


def digest(fab: Fab) -> str:
    return hashlib.sha256(fab.content).hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path)


def test_what_is_approved_and_installed_is_worked_for(site):
    fab, said = fab_of(SOURCES), []
    site.approve(digest(fab))
    assert refusal_of(fab, site, INSTALLED, said.append) is None
    assert said == []


def test_what_is_not_approved_is_refused_and_the_operator_told_how_to_allow_it(site):
    fab, said = fab_of(SOURCES), []
    site.approve("0" * 64)  # what the hub calls it
    refusal = refusal_of(fab, site, INSTALLED, said.append)
    assert refusal is not None
    assert refusal.code == NOT_ALLOWED
    assert digest(fab)[:16] in refusal.reason
    assert any(f"fedbus site approve {site.path} {digest(fab)}" in line for line in said)


def test_approving_and_withdrawing_take_effect_at_once(site):
    fab = fab_of(SOURCES)
    assert refusal_of(fab, site, INSTALLED, print).code == NOT_ALLOWED
    site.approve(digest(fab))
    assert refusal_of(fab, site, INSTALLED, print) is None
    site.withdraw(digest(fab))
    assert refusal_of(fab, site, INSTALLED, print).code == NOT_ALLOWED


@pytest.mark.parametrize(
    "files", [SOURCES | {"fedbus/a.py": b"a = 2\n"}, {"fedbus/a.py": b"a = 1\n"}, SOURCES | {"server/c.py": b""}]
)
def test_another_version_is_refused_though_approved_and_the_operator_told_which_file(files, site):
    fab, said = fab_of(files), []
    site.approve(digest(fab))
    refusal = refusal_of(fab, site, INSTALLED, said.append)
    assert refusal is not None
    assert refusal.code == OTHER_VERSION
    changed = next(name for name in sorted(SOURCES | files) if SOURCES.get(name) != files.get(name))
    assert changed in said[0]


def test_a_bundle_that_is_no_archive_is_refused_though_approved(site):
    fab = Fab("0" * 64, b"no archive", {})
    site.approve(digest(fab))
    assert refusal_of(fab, site, INSTALLED, print).code == OTHER_VERSION


def test_the_hub_is_told_no_path_and_no_file(site):
    other = fab_of(SOURCES | {"fedbus/a.py": b"a = 2\n"})
    reasons = [refusal_of(other, site, INSTALLED, print).reason]
    site.approve(digest(other))
    reasons.append(refusal_of(other, site, INSTALLED, print).reason)
    for reason in reasons:
        assert "/" not in reason
        assert ".py" not in reason
        assert str(site.path) not in reason
