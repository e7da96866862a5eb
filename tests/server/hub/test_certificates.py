"""Certificates: accepted by the strictest checks of OpenSSL and Python, and for no other name."""

import shutil
import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from fedbus.errors import RunError
from server.hub.certificates import check_server_certificate, make_ca, make_server_certificate, read_expiry
from tests.tls import handshake

HOSTS = ("Hub.Example.org", "10.0.0.7", "2001:db8::1", "localhost", "127.0.0.1", "::1", "localhost")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.crt, server.crt and server.key, and the same of another hub."""
    root = tmp_path_factory.mktemp("certificates")
    for prefix in ("", "other-"):
        ca = make_ca("hub.example.org")
        server = make_server_certificate(ca, HOSTS)
        (root / f"{prefix}ca.crt").write_bytes(ca.certificate_pem)
        (root / f"{prefix}ca.key").write_bytes(ca.key_pem)
        (root / f"{prefix}server.crt").write_bytes(server.certificate_pem)
        (root / f"{prefix}server.key").write_bytes(server.key_pem)
    return root


def openssl(*arguments: object) -> subprocess.CompletedProcess[str]:
    program = shutil.which("openssl")
    if not program:
        pytest.skip("no openssl on this machine")
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("host", ["hub.example.org", "10.0.0.7", "2001:db8::1", "localhost", "127.0.0.1", "::1"])
def test_a_site_with_the_right_ca_can_connect_under_every_name(folder, host):
    assert handshake(folder / "server.crt", folder / "server.key", folder / "ca.crt", host) == b"welcome"


def test_a_site_with_the_ca_of_another_hub_refuses_the_connection(folder):
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(folder / "server.crt", folder / "server.key", folder / "other-ca.crt", "localhost")


@pytest.mark.parametrize("host", ["evil.example.org", "10.0.0.8", "example.org"])
def test_a_name_that_is_not_in_the_certificate_is_refused(folder, host):
    with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
        handshake(folder / "server.crt", folder / "server.key", folder / "ca.crt", host)


def test_the_server_can_sign_no_certificates_of_its_own(tmp_path):
    ca = make_ca("hub")
    server = make_server_certificate(ca, ("hub",))
    forged = make_server_certificate(server, ("localhost",))
    (tmp_path / "ca.crt").write_bytes(ca.certificate_pem)
    (tmp_path / "chain.crt").write_bytes(forged.certificate_pem + server.certificate_pem)
    (tmp_path / "forged.key").write_bytes(forged.key_pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(tmp_path / "chain.crt", tmp_path / "forged.key", tmp_path / "ca.crt", "localhost", strict=False)


@pytest.mark.parametrize(("purpose", "accepted"), [("sslserver", True), ("sslclient", False)])
def test_openssl_at_its_strictest_takes_it_for_a_server_only(folder, purpose, accepted):
    result = openssl(
        "verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", "hub.example.org",
        "-CAfile", folder / "ca.crt", folder / "server.crt",
    )  # fmt: skip
    assert (result.returncode == 0) is accepted, result.stderr


def test_openssl_reads_the_names_and_the_ca_constraints(folder):
    names = openssl("x509", "-in", folder / "server.crt", "-noout", "-ext", "subjectAltName").stdout
    assert names.splitlines()[1].strip().split(", ") == [
        "DNS:hub.example.org", "IP Address:10.0.0.7", "IP Address:2001:DB8:0:0:0:0:0:1",
        "DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1",
    ]  # fmt: skip
    text = openssl("x509", "-in", folder / "ca.crt", "-noout", "-text").stdout
    for words in (
        "Basic Constraints: critical",
        "CA:TRUE, pathlen:0",
        "Key Usage: critical",
        "Certificate Sign",
        "P-384",
    ):
        assert words in text


@pytest.mark.parametrize(("file", "days"), [("ca.crt", 3650), ("server.crt", 730)])
def test_certificates_expire_as_documented_and_are_valid_since_a_day_ago(folder, file, days):
    end = read_expiry(folder / file)
    assert abs(end - datetime.now(UTC) - timedelta(days=days)) < timedelta(minutes=5)
    dates = ssl._ssl._test_decode_cert(str(folder / file))
    assert ssl.cert_time_to_seconds(dates["notAfter"]) == end.timestamp()
    begin = datetime.fromtimestamp(ssl.cert_time_to_seconds(dates["notBefore"]), UTC)
    assert abs(datetime.now(UTC) - timedelta(days=1) - begin) < timedelta(minutes=5)


def test_a_host_name_of_maximum_length_is_accepted(tmp_path):
    host = ".".join(["a" * 63, "b" * 63, "c" * 63, "d" * 61])
    ca = make_ca(host)
    server = make_server_certificate(ca, (host,))
    (tmp_path / "ca.crt").write_bytes(ca.certificate_pem)
    (tmp_path / "server.crt").write_bytes(server.certificate_pem)
    (tmp_path / "server.key").write_bytes(server.key_pem)
    check_server_certificate(tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "ca.crt", host)
    assert handshake(tmp_path / "server.crt", tmp_path / "server.key", tmp_path / "ca.crt", host) == b"welcome"


@pytest.mark.parametrize(
    ("certificate", "key", "ca", "host", "words"),
    [
        ("server.crt", "other-server.key", "ca.crt", "localhost", r"other-server\.key is not the key of .*server\.crt"),
        ("server.crt", "server.key", "other-ca.crt", "localhost", r"server\.crt was not signed by .*other-ca\.crt"),
        ("server.crt", "server.key", "ca.crt", "hub.example.com", r"not valid for the host 'hub\.example\.com'"),
        ("server.crt", "server.key", "ca.crt", "10.0.0.8", r"not valid for the host '10\.0\.0\.8'"),
        ("ca.crt", "ca.key", "ca.crt", "localhost", r"ca\.crt is not valid for the host"),
        ("server.key", "server.key", "ca.crt", "localhost", r"server\.key does not contain a certificate in PEM"),
        ("server.crt", "ca.crt", "ca.crt", "localhost", r"ca\.crt does not contain a private key in PEM"),
        ("missing.crt", "server.key", "ca.crt", "localhost", r"missing\.crt can't be read \(No such file"),
    ],
)
def test_files_that_do_not_belong_together_are_named(folder, certificate, key, ca, host, words):
    with pytest.raises(RunError, match=words):
        check_server_certificate(folder / certificate, folder / key, folder / ca, host)


def test_files_that_belong_together_pass_under_every_host(folder):
    for host in (*HOSTS, "HUB.example.ORG", "2001:DB8:0::1"):
        check_server_certificate(folder / "server.crt", folder / "server.key", folder / "ca.crt", host)


def test_a_key_with_a_passphrase_is_refused_without_asking_for_it(folder, tmp_path):
    key = ec.generate_private_key(ec.SECP384R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    (tmp_path / "locked.key").write_bytes(pem)
    with pytest.raises(RunError, match="without a passphrase"):
        check_server_certificate(folder / "server.crt", tmp_path / "locked.key", folder / "ca.crt", "localhost")
