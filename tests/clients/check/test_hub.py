"""Every verdict on a site's hub, from invented answers and from a server on this machine."""

from pathlib import Path

import pytest

import clients.check.hub as hub_module
from clients.check.hub import check_hub
from clients.site.hub_contact import Contact
from clients.site.lock import hold
from server.hub.certificates import make_ca
from tests.site_folders import UNREACHABLE, https_server, make_site

DIGEST = "0123456789abcdef" * 4


@pytest.fixture(scope="module")
def ca():
    return make_ca("127.0.0.1")


@pytest.fixture
def site(tmp_path, ca):
    return make_site(tmp_path, ca=ca)


def topics(site):
    return {result.topic: result for result in check_hub(site)}


@pytest.fixture
def answered(site, monkeypatch):
    def ask(answers, skew=None, approved=None, problem="", **more):
        contact = Contact(answers, skew=skew, approved=approved, problem=problem, **more)
        monkeypatch.setattr(hub_module, "ask_hub", lambda asked: contact)
        return topics(site)

    return ask


def test_a_hub_that_has_approved_the_site(answered, site):
    site.approve_any_study(DIGEST)
    found = answered(True, 0.4, True)
    assert [f.verdict for f in found.values()] == ["pass"] * 4
    assert list(found) == ["Hub", "Clock", "Key", "Studies"]
    assert found["Studies"].found == "approved: any study of application 0123456789ab…"
    assert all(not f.remedy for f in found.values())


def test_a_hub_that_does_not_answer(answered):
    found = answered(False, problem="hub:1 does not answer (refused)")
    assert {topic: f.verdict for topic, f in found.items()} == {
        "Hub": "fail", "Clock": "warn", "Key": "warn", "Studies": "warn"
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
    assert ("refuses more than 5 s ahead or 305 s behind" in found.found) == (verdict != "pass")
    assert ("ahead of" in found.found) == (skew > 0.5)


def test_a_hub_without_a_time(answered):
    assert answered(True, None, True)["Clock"].verdict == "warn"


@pytest.mark.parametrize(
    ("skew", "approved", "verdict", "found"),
    [
        (0, False, "fail", "the hub does not know this site's key"),
        (20, False, "warn", "unknown: because of the clock"),
        (100, None, "warn", "unknown: because of the clock"),
        (0, None, "warn", "unknown: the hub is not ready yet"),
        (0, True, "warn", "the hub is not ready yet"),
    ],
)
def test_a_key_that_is_not_simply_accepted(answered, skew, approved, verdict, found):
    key = answered(True, skew, approved, "the hub is not ready yet")["Key"]
    assert (key.verdict, key.found) == (verdict, found)
    assert ("st-mary.pub" in key.remedy) == (verdict == "fail")


def test_a_certificate_of_another_ca(answered):
    found = answered(False, problem="the certificate is another", wrong_ca=True)["Hub"]
    assert (found.verdict, found.found) == ("fail", "the certificate is another")
    assert found.remedy.startswith("Do not join.")


def test_no_approved_application_is_a_warning(answered):
    found = answered(True, 0, True)["Studies"]
    assert found.verdict == "warn"
    assert "fedbus site approve" in found.remedy


def test_a_damaged_list_of_applications_is_a_failure(answered, site):
    (site.path / "approved.json").write_text("[1]")
    assert answered(True, 0, True)["Studies"].verdict == "fail"


def test_a_damaged_ca_certificate_is_a_failure(site):
    site.ca_certificate.write_text("nothing")
    found = topics(site)
    assert list(found) == ["Hub", "Studies"]
    assert (found["Hub"].verdict, found["Hub"].found) == ("fail", "ca.crt does not contain a certificate in PEM.")


def test_the_ca_certificate_is_read_once(site, monkeypatch):
    reads, read = [], Path.read_bytes
    monkeypatch.setattr(Path, "read_bytes", lambda path: reads.append(path) or read(path))
    topics(site)
    assert reads.count(site.ca_certificate) == 1


def test_a_joined_site_does_not_ask_the_hub(site, monkeypatch):
    monkeypatch.setattr(hub_module, "ask_hub", lambda asked: pytest.fail("asked"))
    with hold(site):
        found = topics(site)
    assert list(found) == ["Hub", "Studies"]
    assert (found["Hub"].verdict, "its key is in use" in found["Hub"].found) == ("warn", True)


def test_a_real_server_that_has_approved_no_site(tmp_path, ca):
    with https_server(ca, tmp_path) as address:
        found = topics(make_site(tmp_path, address, ca))
    assert {topic: f.verdict for topic, f in found.items()} == {
        "Hub": "pass", "Clock": "pass", "Key": "fail", "Studies": "warn"
    }  # fmt: skip


def test_a_real_server_of_another_ca(tmp_path, ca):
    with https_server(make_ca("127.0.0.1"), tmp_path) as address:
        found = topics(make_site(tmp_path, address, ca))["Hub"]
    assert found.verdict == "fail"
    assert found.found.startswith(f"the certificate of {address} can't be verified with ca.crt")
    assert found.remedy.startswith("Do not join.")


def test_no_server_at_the_address(site):
    found = topics(site)["Hub"]
    assert found.verdict == "fail"
    assert f"{UNREACHABLE} does not answer" in found.found
