"""A site runs an application only if its operator has approved it and it is installed."""

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
    with zipfile.ZipFile(buffer, "w") as bundle:
        for name, content in files.items():
            bundle.writestr(name, content)
    # The digest that the hub states is wrong on purpose: a site must compute it from the content.
    return Fab("0" * 64, buffer.getvalue(), {})


def digest(fab: Fab) -> str:
    return hashlib.sha256(fab.content).hexdigest()


@pytest.fixture
def site(tmp_path: Path) -> SiteFolder:
    return make_site(tmp_path)


def test_an_approved_and_installed_application_is_run(site):
    fab, said = fab_of(SOURCES), []
    site.approve_any_study(digest(fab))
    assert refusal_of(fab, site, INSTALLED, said.append) is None
    assert said == []


def test_an_application_that_is_not_approved_is_refused_and_the_log_says_how_to_approve(site):
    fab, said = fab_of(SOURCES), []
    site.approve_any_study("0" * 64)  # the digest that the hub states
    refusal = refusal_of(fab, site, INSTALLED, said.append)
    assert refusal is not None
    assert refusal.code == NOT_ALLOWED
    assert digest(fab)[:16] in refusal.reason
    assert any(f"fedbus site approve {site.path} {digest(fab)}" in line for line in said)


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
