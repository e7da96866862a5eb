"""The hub's certificates: its own certificate authority (CA), which sites trust, and the server certificate it signs.

Both conform to RFC 5280 as strictly as `ssl.VERIFY_X509_STRICT` requires, which is Python's default from 3.13 on.
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedbus.deployment.private_folder import need_private_file, read_bytes
from fedbus.errors import RunError

CA_LIFETIME = timedelta(days=3650)
SERVER_LIFETIME = timedelta(days=730)
BACKDATING = timedelta(days=1)
"""Certificates are valid from a day ago, so that a site whose clock is behind the hub's accepts a new one."""

MAX_COMMON_NAME = 64
"""Characters; the upper bound of X.520."""

_REMEDY = "Restore the file that `fedbus hub init` made, or make a new hub and send its ca.crt to every site."


@dataclass(frozen=True)
class CertificateAndKey:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key in PEM (PKCS #8), without a passphrase."""
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def make_ca(host: str) -> CertificateAndKey:
    """Make the CA of one hub: self-signed, ECDSA on P-384, valid for ten years, for server certificates only.

    Args:
        host: The hub's name or address, for people who inspect the certificate.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    name = _common_name(f"FedBUS CA of {host}")
    builder = (
        _builder(name, name, key, CA_LIFETIME)
        # path_length=0: it signs server certificates, but no further CA
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(sign_certificates=True), critical=True)
    )
    return CertificateAndKey(builder.sign(key, hashes.SHA384()), key)


def make_server_certificate(ca: CertificateAndKey, hosts: Sequence[str]) -> CertificateAndKey:
    """Make a server certificate: ECDSA on P-384, valid for two years, at the longest as long as its CA.

    Args:
        ca: The CA that signs it.
        hosts: Names and addresses of the server, each valid for `fedbus.deployment.addresses.check_host`.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = ca.certificate
    lifetime = min(SERVER_LIFETIME, issuer.not_valid_after_utc - datetime.now(UTC))
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_common_name(f"FedBUS hub {hosts[0]}"), issuer.subject, key, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(map(_general_name, hosts)))), critical=False)
    )
    return CertificateAndKey(builder.sign(ca.key, hashes.SHA384()), key)


def fingerprint_of_certificate(certificate: x509.Certificate) -> str:
    """Return the SHA-256 of a certificate, hexadecimal, as `openssl x509 -fingerprint` computes it."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def read_expiry(path: Path) -> datetime:
    """Read the time (UTC) at which the certificate in a PEM file expires.

    Raises:
        RunError: If the file can't be read or contains no certificate.
    """
    return _read_certificate(path).not_valid_after_utc


def read_ca(certificate: Path, key: Path) -> CertificateAndKey:
    """Read the CA with its private key, to sign a certificate.

    Raises:
        RunError: If a file is missing or damaged, others can read the key, it is the key of another CA, or the CA has
            expired.
    """
    need_private_file(
        key, "Bring the ca.key that `fedbus hub init` made, and name it: fedbus hub renew DIR --ca-key FILE"
    )
    issuer, private = _read_certificate(certificate), _read_key(key)
    if not isinstance(private, ec.EllipticCurvePrivateKey) or private.public_key() != issuer.public_key():
        raise RunError(f"{key} is not the key of {certificate}.", "Name the ca.key that was made with this ca.crt.")
    if issuer.not_valid_after_utc <= datetime.now(UTC):
        raise RunError(
            f"{certificate} ended on {issuer.not_valid_after_utc:%Y-%m-%d}: sites accept nothing that it signs.",
            "Make a new hub with `fedbus hub init`, and send its ca.crt to every site.",
        )
    return CertificateAndKey(issuer, private)


def read_hosts(certificate: Path, first: str) -> list[str]:
    """Read the names and addresses for which a server certificate is valid.

    Args:
        certificate: A server certificate.
        first: The one of them that comes first in the list.

    Raises:
        RunError: If the file can't be read or contains no certificate.
    """
    names = [str(name.value) for name in _alternative_names(_read_certificate(certificate))]
    return [first, *(name for name in names if _general_name(name) != _general_name(first))]


def check_server_certificate(certificate: Path, key: Path, ca: Path, host: str) -> None:
    """Check that a server certificate belongs to this key, was signed by this CA and is valid for this host.

    Raises:
        RunError: If one of these does not hold, or a file can't be read.
    """
    server, issuer = _read_certificate(certificate), _read_certificate(ca)
    if _read_key(key).public_key() != server.public_key():
        raise RunError(f"{key} is not the key of {certificate}.", _REMEDY)
    try:
        server.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RunError(f"{certificate} was not signed by {ca}.", _REMEDY) from error
    if _general_name(host) not in _alternative_names(server):
        raise RunError(
            f"{certificate} is not valid for the host {host!r}: sites would refuse the connection.",
            "Put the former host back into hub.toml, or make a new hub with `fedbus hub init DIR --host NAME`.",
        )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_bytes(path))
    except ValueError as error:
        raise RunError(f"{path} does not contain a certificate in PEM.", _REMEDY) from error


def _read_key(path: Path) -> PrivateKeyTypes:
    try:
        return load_pem_private_key(read_bytes(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a passphrase
        raise RunError(f"{path} does not contain a private key in PEM without a passphrase.", _REMEDY) from error


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, lifetime: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATING)
        .not_valid_after(now + lifetime)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:MAX_COMMON_NAME])])


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    """Allow a key either to sign certificates or to sign TLS handshakes."""
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host.lower())
