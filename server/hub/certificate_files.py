"""The files of a renewed server certificate: certificate and key are replaced both, also after a kill in between."""

from pathlib import Path

from fedbus.deployment.private_folder import read_bytes
from fedbus.system.files import write_synced

RENEWED = "renewed.pem"
"""In the hub's folder: a new server certificate with its key, until both have replaced the old ones."""

_KEY_STARTS = b"-----BEGIN PRIVATE KEY-----"


def write_renewed(folder: Path, certificate: bytes, key: bytes) -> None:
    """Write a certificate and its key, both in PEM, for `install_renewed`.

    Raises:
        RunError: If the file can't be written; then the old certificate is unchanged.
    """
    write_synced(folder / RENEWED, certificate + key, private=True)


def install_renewed(folder: Path, certificate: Path, key: Path) -> None:
    """Replace certificate and key by the renewed ones, if there are any.

    Args:
        folder: The hub's folder.
        certificate: The file of the certificate.
        key: The file of its key.

    Raises:
        RunError: If a file can't be written; it is tried again when the hub's folder is next opened.
    """
    renewed = folder / RENEWED
    if not renewed.is_file():
        return
    new_certificate, start, rest = read_bytes(renewed).partition(_KEY_STARTS)
    write_synced(key, start + rest, private=True)
    write_synced(certificate, new_certificate)
    renewed.unlink(missing_ok=True)
