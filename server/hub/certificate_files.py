"""The files of a renewed server certificate: certificate and key are replaced both, also after a kill in between."""

import os
import tempfile
from pathlib import Path

from fedbus.deployment.private_folder import read_bytes
from fedbus.errors import RunError

RENEWED = "renewed.pem"
"""In the hub's folder: a new server certificate with its key, until both have replaced the old ones."""

_KEY_STARTS = b"-----BEGIN PRIVATE KEY-----"


def write_renewed(folder: Path, certificate: bytes, key: bytes) -> None:
    """Write a certificate and its key, both in PEM, for `install_renewed`.

    Raises:
        RunError: If the file can't be written; then the old certificate is unchanged.
    """
    _replace(folder / RENEWED, certificate + key)


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
    _replace(key, start + rest)
    _replace(certificate, new_certificate)
    renewed.unlink(missing_ok=True)


def _replace(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, completely or not at all, and wait until it is on the disk."""
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # of mode 0600
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise RunError(
            f"{path} could not be written ({error.strerror or error}); nothing incomplete is left.",
            "Free some disk space, or run as the user who owns the folder, then try again.",
        ) from error
