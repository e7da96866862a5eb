"""The hub's certificates: an authority of its own, which sites trust, and the server certificate that it signs.

Both keep to RFC 5280 as strictly as `ssl.VERIFY_X509_STRICT` asks, which Python switches on by itself from 3.13.
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
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedbus.deployment.private_folder import read_bytes
from fedbus.errors import RunError

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=730)
BACKDATED = timedelta(days=1)
"""A site whose clock runs behind the hub's must not take a new certificate for one of the future."""

_REMEDY = "Restore the file that `fedbus hub init` made, or make a new hub, whose ca.crt every site then needs."


@dataclass(frozen=True)
class Signed:
    """A certificate and the private key that belongs to it."""

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


def make_authority(host: str) -> Signed:
    """Make the authority of one hub: self-signed, ECDSA on P-384, ten years, for server certificates directly below it.

    Args:
        host: the hub's name or address, for people who look at the certificate.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    name = _named(f"FedBUS authority of {host}")
    builder = (
        _builder(name, name, key, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
    )
    return Signed(builder.sign(key, hashes.SHA384()), key)


def make_certificate(authority: Signed, hosts: Sequence[str]) -> Signed:
    """Make a server certificate: ECDSA on P-384, two years.

    Args:
        authority: who signs it.
        hosts: names and addresses under which the server is reached, each as `fedbus.deployment.addresses.check_host` allows.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    issuer = authority.certificate
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        _builder(_named(f"FedBUS hub {hosts[0]}"), issuer.subject, key, SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(x509.SubjectAlternativeName(list(dict.fromkeys(map(_general_name, hosts)))), critical=False)
    )
    return Signed(builder.sign(authority.key, hashes.SHA384()), key)


def certificate_end(path: Path) -> datetime:
    """The moment (UTC) after which the certificate in a PEM file is no longer valid.

    Raises:
        RunError: the file can't be read or holds no certificate.
    """
    return _read_certificate(path).not_valid_after_utc


def check_server_certificate(certificate: Path, key: Path, authority: Path, host: str) -> None:
    """Check that a server certificate is of this key, signed by this authority and made for this host.

    Raises:
        RunError: it is not, or a file can't be read.
    """
    server, above = _read_certificate(certificate), _read_certificate(authority)
    try:
        private = load_pem_private_key(read_bytes(key), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a passphrase
        raise RunError(f"{key} holds no private key in PEM without a passphrase.", _REMEDY) from error
    if private.public_key() != server.public_key():
        raise RunError(f"{key} is not the key of {certificate}.", _REMEDY)
    try:
        server.verify_directly_issued_by(above)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RunError(f"{certificate} was not signed by {authority}.", _REMEDY) from error
    if _general_name(host) not in _alternative_names(server):
        raise RunError(
            f"{certificate} is not made for the host {host!r}, and sites that call it so are turned away.",
            "Put the former host back into hub.toml, or make a new hub with `fedbus hub init DIR --host NAME`.",
        )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(read_bytes(path))
    except ValueError as error:
        raise RunError(f"{path} holds no certificate in PEM.", _REMEDY) from error


def _alternative_names(certificate: x509.Certificate) -> list[x509.GeneralName]:
    try:
        return list(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return []


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, life: timedelta
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # 64: X.520's limit


def _usage(*, certificates: bool) -> x509.KeyUsage:
    """What a key may do: sign certificates, or sign handshakes."""
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
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
