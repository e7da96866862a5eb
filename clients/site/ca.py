"""The certificate of the hub's certificate authority (CA) as a site receives it: checked before it is trusted."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from fedbus.deployment.private_folder import read_bytes
from fedbus.errors import RunError

_REMEDY = "Ask the hub for its ca.crt and name that file."


def read_ca_certificate(path: Path) -> bytes:
    """Read and check a hub's ca.crt.

    Returns:
        The one certificate in it, in PEM, without anything else that the file contains.

    Raises:
        RunError: If the file can't be read, contains a private key or not exactly one certificate in PEM, or if the
            certificate is not a self-signed CA's, is damaged, has expired or is not yet valid.
    """
    content = read_bytes(path)
    if b"PRIVATE KEY" in content:
        raise RunError(
            f"{path} contains a private key, which must never leave its machine.",
            "Delete this copy and tell the hub's operator, who must make a new hub and send you its ca.crt.",
        )
    try:
        certificates = x509.load_pem_x509_certificates(content)
    except ValueError as error:
        raise RunError(f"{path} does not contain a certificate in PEM.", _REMEDY) from error
    if len(certificates) != 1:
        raise RunError(f"{path} contains {len(certificates)} certificates, not one.", _REMEDY)
    _check(certificates[0], path)
    return certificates[0].public_bytes(Encoding.PEM)


def _check(certificate: x509.Certificate, path: Path) -> None:
    if not _may_sign_certificates(certificate):
        raise RunError(f"{path} is not the certificate of a CA, but of a server or a person.", _REMEDY)
    try:
        certificate.verify_directly_issued_by(certificate)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise RunError(f"{path} is not self-signed, as the certificate of a hub's CA is.", _REMEDY) from error
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        raise RunError(f"{path} expired on {certificate.not_valid_after_utc:%Y-%m-%d}.", _REMEDY)
    if certificate.not_valid_before_utc > now:
        raise RunError(
            f"{path} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC on, but this machine's clock "
            f"shows {now:%Y-%m-%d %H:%M} UTC.",
            "Set the clock of this machine.",
        )


def _may_sign_certificates(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except (x509.ExtensionNotFound, ValueError):  # ValueError: an extension that can't be parsed
        return False
    return constraints.ca and usage.key_cert_sign
