"""The CA certificate that a site trusts: only a valid, self-signed one."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from clients.site.folder import init_site
from fedbus.errors import RunError
from server.hub import certificates
from server.hub.certificates import CertificateAndKey, make_ca, make_server_certificate
from tests.site_folders import HUB


def with_dates(**when: object) -> bytes:
    """A CA certificate with other dates."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in when.items():
            patch.setattr(certificates, name, value)
        return make_ca("hub").certificate_pem


def self_signed(ca: CertificateAndKey, *extensions: x509.ExtensionType) -> bytes:
    """A certificate signed by itself with only these extensions."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, ca.key.public_key(), 1, now, now + timedelta(days=1))
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(ca.key, ca.certificate.signature_hash_algorithm).public_bytes(Encoding.PEM)


MAY_SIGN, MAY_NOT_SIGN = (certificates._key_usage(sign_certificates=value) for value in (True, False))
NOT_A_CA = x509.BasicConstraints(ca=False, path_length=None)
A_CA = x509.BasicConstraints(ca=True, path_length=None)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda a: a.key_pem, "contains a private key, which must never leave"),
        (lambda a: a.certificate_pem + a.key_pem, "contains a private key"),
        (lambda a: make_server_certificate(a, ("hub",)).certificate_pem, "not the certificate of a CA"),
        (self_signed, "not the certificate of a CA"),
        (lambda a: self_signed(a, A_CA), "not the certificate of a CA"),
        (lambda a: self_signed(a, A_CA, MAY_NOT_SIGN), "not the certificate of a CA"),
        (lambda a: self_signed(a, NOT_A_CA, MAY_SIGN), "not the certificate of a CA"),
        (lambda a: a.certificate_pem * 2, "contains 2 certificates, not one"),
        (lambda a: a.certificate.public_bytes(Encoding.DER), "does not contain a certificate in PEM"),
        (lambda a: a.certificate_pem[:300], "does not contain a certificate in PEM"),
        (lambda _: b"", "does not contain a certificate in PEM"),
        (lambda _: with_dates(CA_LIFETIME=timedelta(seconds=-60)), "expired on 20"),
        (lambda _: with_dates(BACKDATING=timedelta(hours=-1)), "is valid from .*, but this machine's clock shows"),
    ],
)
def test_only_a_valid_ca_certificate_is_trusted(tmp_path, ca, content, words):
    (tmp_path / "ca.crt").write_bytes(content(ca))
    with pytest.raises(RunError, match=rf"ca\.crt .*{words}"):
        init_site(tmp_path / "site", "north", HUB, tmp_path / "ca.crt")
    assert not (tmp_path / "site").exists()


def test_a_ca_signed_by_another_is_not_trusted(tmp_path, ca):
    other = make_ca("other")
    forged = CertificateAndKey(ca.certificate, other.key)  # names the CA as issuer, but has another key
    with pytest.MonkeyPatch.context() as patch:
        usage = certificates._key_usage
        patch.setattr(certificates, "_key_usage", lambda sign_certificates: usage(sign_certificates=True))
        constraints = x509.BasicConstraints
        patch.setattr(x509, "BasicConstraints", lambda ca, path_length: constraints(ca=True, path_length=None))
        (tmp_path / "ca.crt").write_bytes(make_server_certificate(forged, ("hub",)).certificate_pem)
    with pytest.raises(RunError, match="not self-signed"):
        init_site(tmp_path / "site", "north", HUB, tmp_path / "ca.crt")


def test_text_around_the_certificate_is_not_copied(tmp_path, ca_file, ca):
    ca_file.write_bytes(b"From: the hub\n" + ca.certificate_pem + b"\nRegards\n")
    assert init_site(tmp_path / "s", "north", HUB, ca_file).ca_certificate.read_bytes() == ca.certificate_pem
