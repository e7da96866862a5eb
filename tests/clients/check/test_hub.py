"""Every verdict on a site's hub, from made-up answers and from a server on loopback."""

import pytest

import clients.check.hub as check_hub
from clients.check.hub import hub_findings
from clients.site.hub_contact import Contact
from clients.site.lock import hold
from server.hub.certificates import make_ca
from tests.site_folders import UNREACHABLE, https_server, make_site

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def authority():
    return make_ca("127.0.0.1")


@pytest.fixture
def site(tmp_path, authority):
    return make_site(tmp_path, ca=authority)


def topics(site):
    return {finding.topic: finding for finding in hub_findings(site)}


@pytest.fixture
def answered(site, monkeypatch):
    def ask(answers, skew=None, approved=None, problem="", **more):
        contact = Contact(answers, skew=skew, approved=approved, problem=problem, **more)
        monkeypatch.setattr(check_hub, "ask_hub", lambda asked: contact)
        return topics(site)

    return ask


def test_a_hub_that_lets_the_site_in(answered, site):
    site.approve(DIGEST)
    found = answered(True, 0.4, True)
    assert [f.verdict for f in found.values()] == ["pass"] * 4
    assert list(found) == ["Hub", "Clock", "Key", "Application"]
    assert found["Application"].found == "1 digest approved: 0123456789ab…"
    assert all(not f.remedy for f in found.values())


def test_a_hub_that_does_not_answer(answered):
    found = answered(False, problem="hub:1 does not answer (refused)")
    assert {topic: f.verdict for topic, f in found.items()} == {
        "Hub": "fail", "Clock": "warn", "Key": "warn", "Application": "warn"
    }  # fmt: skip
    assert found["Hub"].found == "hub:1 does not answer (refused)"
    assert "firewall" in found["Hub"].remedy


@pytest.mark.parametrize(
    ("skew", "verdict"),
    [(2.0, "pass"), (2.1, "warn"), (5.0, "warn"), (5.1, "fail"), (3600, "fail"),
     (-60, "pass"), (-61, "warn"), (-305, "warn"), (-306, "fail"), (0.2, "pass")],
)  # fmt: skip
def test_clocks_as_flower_compares_them(answered, skew, verdict):
    found = answered(True, skew, True)["Clock"]
    assert found.verdict == verdict
    assert ("refuses over 5 s ahead or 305 s behind" in found.found) == (verdict != "pass")
    assert ("ahead of" in found.found) == (skew > 0.5)


def test_a_hub_that_tells_no_time(answered):
    assert answered(True, None, True)["Clock"].verdict == "warn"


@pytest.mark.parametrize(
    ("skew", "approved", "verdict", "found"),
    [
        (0, False, "fail", "the hub does not know this site's key"),
        (20, False, "warn", "not known: because of the clock"),
        (100, None, "warn", "not known: because of the clock"),
        (0, None, "warn", "not known: the hub is not ready yet"),
        (0, True, "warn", "the hub is not ready yet"),
    ],
)
def test_a_key_that_is_not_simply_let_in(answered, skew, approved, verdict, found):
    key = answered(True, skew, approved, "the hub is not ready yet")["Key"]
    assert (key.verdict, key.found) == (verdict, found)
    assert ("st-mary.pub" in key.remedy) == (verdict == "fail")


def test_a_certificate_of_another_authority(answered):
    found = answered(False, problem="the certificate is another", wrong_authority=True)["Hub"]
    assert (found.verdict, found.found) == ("fail", "the certificate is another")
    assert found.remedy.startswith("Do not join.")


def test_no_approved_application_is_a_warning(answered):
    found = answered(True, 0, True)["Application"]
    assert found.verdict == "warn"
    assert "fedbus site approve" in found.remedy


def test_damaged_files_of_the_site_are_failures(answered, site):
    (site.path / "approved.json").write_text("[1]")
    assert answered(True, 0, True)["Application"].verdict == "fail"
    site.ca_certificate.write_text("nothing")
    found = answered(True, 0, True)
    assert (found["Hub"].verdict, found["Hub"].found) == ("fail", "ca.crt holds no certificate in PEM.")


def test_a_joined_site_is_not_asked_for(site, monkeypatch):
    monkeypatch.setattr(check_hub, "ask_hub", lambda asked: pytest.fail("asked"))
    with hold(site):
        found = topics(site)
    assert list(found) == ["Hub", "Application"]
    assert (found["Hub"].verdict, "its key is in use" in found["Hub"].found) == ("warn", True)


def test_a_real_server_that_knows_nobody(tmp_path, authority):
    with https_server(authority, tmp_path) as address:
        found = topics(make_site(tmp_path, address, authority))
    assert {topic: f.verdict for topic, f in found.items()} == {
        "Hub": "pass", "Clock": "pass", "Key": "fail", "Application": "warn"
    }  # fmt: skip


def test_a_real_server_of_another_authority(tmp_path, authority):
    with https_server(make_ca("127.0.0.1"), tmp_path) as address:
        found = topics(make_site(tmp_path, address, authority))["Hub"]
    assert found.verdict == "fail"
    assert found.found.startswith(f"{address} has no certificate that ca.crt vouches for")
    assert found.remedy.startswith("Do not join.")


def test_nobody_at_the_address(site):
    found = topics(site)["Hub"]
    assert found.verdict == "fail"
    assert f"{UNREACHABLE} does not answer" in found.found
