"""The hub's authority as a site receives it: checked before it is trusted."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from fedbus.deployment.private_folder import read_bytes
from fedbus.errors import RunError

_REMEDY = "Ask the hub for its ca.crt and name that file."


def read_authority(path: Path) -> bytes:
    """Read a hub's ca.crt.

    Returns:
        The one certificate in it, in PEM, and nothing else that the file may hold.

    Raises:
        RunError: it can't be read, holds a private key, is not one certificate in PEM, is no authority's, signed by
            another, damaged, expired, or not yet valid.
    """
    content = read_bytes(path)
    if b"PRIVATE KEY" in content:
        raise RunError(
            f"{path} holds a private key, which must never leave its machine.",
            "Delete this copy, tell the hub, and ask for ca.crt of a hub made anew.",
        )
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise RunError(f"{path} holds no certificate in PEM.", _REMEDY) from error
    if len(certificates) != 1:
        raise RunError(f"{path} holds {len(certificates)} certificates, not one.", _REMEDY)
    _check(certificates[0], path)
    return certificates[0].public_bytes(Encoding.PEM)


def _check(certificate: x509.Certificate, path: Path) -> None:
    if not _may_sign(certificate):
        raise RunError(f"{path} is not the certificate of an authority, but of a server or a person.", _REMEDY)
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RunError(f"{path} is not signed by itself, as a hub's authority is.", _REMEDY) from error
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise RunError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}.", _REMEDY)
    if certificate.not_valid_before_utc > now:
        raise RunError(
            f"{path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, and here it is "
            f"{now:%Y-%m-%d %H:%M} UTC.",
            "Set the clock of this machine.",
        )


def _may_sign(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):  # ValueError: an extension that can't be read
        return False
    return constraints.ca and usage.key_cert_sign
