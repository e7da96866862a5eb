"""A renewed server certificate: signed by the same CA, written whole, and used by a running hub without a restart."""

import hashlib
import os
import shutil
import ssl
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import uvicorn
from cryptography import x509
from typer.testing import CliRunner

from fedbus.errors import RunError
from server.cli import app
from server.hub import certificate_files, certificates, renewal, superlink_process
from server.hub.certificate_files import RENEWED
from server.hub.certificates import make_ca
from server.hub.folder import HubFolder, init_hub, open_hub
from server.hub.renewal import WARN_DAYS, days_left, expiry_warnings, renew_certificate
from tests.tls import handshake

NAMES = ("10.0.0.7", "2001:db8::1", "other.example.org")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return init_hub(tmp_path_factory.mktemp("hubs") / "hub", "hub.example.org", names=NAMES).path


@pytest.fixture
def hub(made: Path, tmp_path: Path) -> HubFolder:
    return open_hub(shutil.copytree(made, tmp_path / "hub"))


def read(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def in_days(monkeypatch, days: float) -> None:
    """Let certificates be looked at some days from now."""

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + timedelta(days=days)

    for module in (renewal, certificates):
        monkeypatch.setattr(module, "datetime", Later)


def test_sites_that_trust_the_ca_accept_the_new_certificate_under_every_name(hub):
    ca = hub.ca_certificate.read_bytes()
    old, old_key = read(hub.certificate), hub.key.read_bytes()
    until = renew_certificate(hub)
    new = read(hub.certificate)
    assert new.not_valid_after_utc == until
    assert new.serial_number != old.serial_number
    assert hub.key.read_bytes() != old_key
    assert hub.ca_certificate.read_bytes() == ca
    names = x509.SubjectAlternativeName
    assert set(new.extensions.get_extension_for_class(names).value) == set(
        old.extensions.get_extension_for_class(names).value
    )
    for host in ("hub.example.org", *NAMES, "localhost", "127.0.0.1"):
        assert handshake(hub.certificate, hub.key, hub.ca_certificate, host) == b"welcome"
    assert hub.key.stat().st_mode & 0o777 == 0o600
    assert not (hub.path / RENEWED).exists()


def test_it_is_valid_for_two_years_and_the_date_in_the_settings_is_corrected(hub, monkeypatch):
    in_days(monkeypatch, 700)
    until = renew_certificate(hub)
    assert abs(until - datetime.now(UTC) - timedelta(days=1430)) < timedelta(hours=1)
    text = hub.path.joinpath("hub.toml").read_text()
    assert f"# server.crt is valid until {until:%Y-%m-%d}." in text
    assert f"# ca.crt is valid until {read(hub.ca_certificate).not_valid_after_utc:%Y-%m-%d}" in text
    assert open_hub(hub.path).settings == hub.settings


def test_a_certificate_that_has_ended_can_be_renewed(hub, monkeypatch):
    in_days(monkeypatch, 800)
    with pytest.raises(RunError, match=r"server\.crt ended on") as ended:
        expiry_warnings(hub)
    assert ended.value.remedy == f"Renew it: fedbus hub renew {hub.path}"
    renew_certificate(open_hub(hub.path))
    assert expiry_warnings(hub) == []


def test_it_ends_with_its_ca_at_the_latest(hub, monkeypatch):
    in_days(monkeypatch, 3600)
    assert renew_certificate(hub) == read(hub.ca_certificate).not_valid_after_utc


def test_a_ca_that_has_ended_is_an_error_with_the_remedy(hub, monkeypatch):
    before = hub.certificate.read_bytes()
    in_days(monkeypatch, 3651)
    with pytest.raises(RunError, match=r"ca\.crt ended on") as refused:
        renew_certificate(hub)
    assert "fedbus hub init" in refused.value.remedy
    assert hub.certificate.read_bytes() == before


def test_the_key_of_the_ca_can_be_kept_elsewhere(hub, tmp_path):
    before = hub.certificate.read_bytes()
    away = tmp_path / "safe.key"
    shutil.move(hub.ca_key, away)
    with pytest.raises(RunError, match=r"ca\.key is missing") as missing:
        renew_certificate(hub)
    assert "--ca-key" in missing.value.remedy
    assert hub.certificate.read_bytes() == before
    renew_certificate(hub, away)
    assert hub.certificate.read_bytes() != before
    assert not hub.ca_key.exists()


def test_the_key_of_another_ca_one_that_others_can_read_and_no_key_are_refused(hub, tmp_path):
    before = hub.certificate.read_bytes()
    other, no_key = tmp_path / "other.key", tmp_path / "no.key"
    other.write_bytes(make_ca("hub.example.org").key_pem)
    no_key.write_bytes(hub.ca_certificate.read_bytes())
    for path in (other, no_key):
        path.chmod(0o644)
        with pytest.raises(RunError, match="others can read it"):
            renew_certificate(hub, path)
        path.chmod(0o600)
    with pytest.raises(RunError, match=r"other\.key is not the key of .*ca\.crt"):
        renew_certificate(hub, other)
    with pytest.raises(RunError, match="does not contain a private key"):
        renew_certificate(hub, no_key)
    assert hub.certificate.read_bytes() == before


def test_another_host_in_the_settings_is_refused(hub):
    settings = hub.path / "hub.toml"
    settings.write_text(settings.read_text().replace('host = "hub.example.org"', 'host = "moved.example.org"'))
    result = CliRunner().invoke(app, ["renew", str(hub.path)])
    assert isinstance(result.exception, RunError)
    assert "not valid for the host 'moved.example.org'" in result.exception.problem
    assert "Put the former host back" in result.exception.remedy


@pytest.mark.parametrize("written", [1, 2])
def test_a_renewal_that_is_killed_in_between_is_completed_by_the_next_command(written, hub, monkeypatch):
    write, done = certificate_files.write_synced, list[bytes]()

    def until_killed(path: Path, content: bytes, **options: bool) -> None:
        if len(done) == written:
            raise KeyboardInterrupt
        write(path, content, **options)
        done.append(content)

    old = read(hub.certificate)
    with monkeypatch.context() as patch:
        patch.setattr(certificate_files, "write_synced", until_killed)
        with pytest.raises(KeyboardInterrupt):
            renew_certificate(hub)
    assert read(hub.certificate) == old
    open_hub(hub.path)
    assert hub.certificate.read_bytes() + hub.key.read_bytes() == done[0]
    assert handshake(hub.certificate, hub.key, hub.ca_certificate, "hub.example.org") == b"welcome"
    assert not (hub.path / RENEWED).exists()


def test_a_full_disk_leaves_the_old_certificate(hub, monkeypatch):
    before = hub.certificate.read_bytes(), hub.key.read_bytes()
    monkeypatch.setattr(os, "fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(RunError, match=r"audit\.jsonl could not be written \(No space left"):
        renew_certificate(hub)
    assert (hub.certificate.read_bytes(), hub.key.read_bytes()) == before
    assert not (hub.path / RENEWED).exists()


def test_a_renewal_is_in_the_audit_log_with_the_fingerprint_of_the_certificate(hub):
    until = renew_certificate(hub)
    chain = hub.audit.read()
    last = chain.entries[-1][0]
    assert chain.faults == []
    assert (last.event, last.details["until"]) == ("certificate renewed", f"{until:%Y-%m-%d}")
    pem = hub.certificate.read_text()
    assert last.details["sha256"] == hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def test_a_start_warns_before_a_certificate_ends(hub, monkeypatch):
    assert expiry_warnings(hub) == []
    assert days_left(hub.certificate) == 730
    in_days(monkeypatch, 730 - WARN_DAYS)
    (warning,) = expiry_warnings(hub)
    assert f"server.crt ends in {WARN_DAYS} days" in warning
    assert "fedbus hub renew" in warning
    in_days(monkeypatch, -1)
    in_days(monkeypatch, 3650 - WARN_DAYS)
    monkeypatch.setattr(renewal, "read_expiry", lambda path: read(hub.ca_certificate).not_valid_after_utc)
    assert any("ca.crt ends in" in line for line in expiry_warnings(hub))


def test_a_running_gateway_uses_the_new_certificate_and_keeps_open_connections(gateway):
    hub, site = gateway.hub, gateway.site()
    assert gateway.call(site) == 418
    before = served(gateway)
    renew_certificate(hub)
    assert gateway.call(site) == 418, "the open connection"
    site.close()
    assert served(gateway) == ssl.PEM_cert_to_DER_cert(hub.certificate.read_text()) != before
    key = hub.key.read_bytes()
    hub.key.write_bytes(b"half of it")  # as between the two files
    present = served(gateway)
    hub.key.write_bytes(key)
    assert present == served(gateway)


def served(gateway) -> bytes:
    with gateway.connect_tls() as connection:
        return connection.getpeercert(binary_form=True)


def test_the_superlink_follows_the_certificate_too(hub, monkeypatch):
    """Its context is made by `uvicorn.run`, which Flower calls; the real process is in tests/deployment."""
    found: list[ssl.SSLContext] = []

    def run(application: object, **options) -> None:
        config = uvicorn.Config(application, **options)
        config.load()
        found.append(config.ssl)

    monkeypatch.setattr(uvicorn, "run", run)
    files = {"ssl_certfile": str(hub.certificate), "ssl_keyfile": str(hub.key)}
    monkeypatch.setattr(
        superlink_process,
        "run_superlink",
        lambda make_state: uvicorn.run(lambda *_: None, log_config=None, ws="none", **files),
    )
    monkeypatch.setattr(sys, "argv", ["flower-superlink", str(hub.path), "5"])
    superlink_process.main()
    assert found[0].sni_callback is not None
