"""The private key with which a site signs: ECDSA on P-384 in OpenSSH's format, mode 0600."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.private_folder import read_bytes, write_private
from fedbus.errors import RunError


def write_new_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Write a new key without a passphrase: a site joins again after a restart, when no person could enter it.

    Raises:
        OSError: If the file exists or can't be written.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_private(path, content)
    return key


def read_private_key(path: Path, remedy: str) -> ec.EllipticCurvePrivateKey:
    """Read a key.

    Raises:
        RunError: If it can't be read, is damaged, has a passphrase or is not an ECDSA key on P-384; with this remedy.
    """
    try:
        key = serialization.load_ssh_private_key(read_bytes(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a passphrase
        raise _unusable(path, remedy) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _unusable(path, remedy)
    return key


def _unusable(path: Path, remedy: str) -> RunError:
    return RunError(f"{path} is not an ECDSA key on P-384 in OpenSSH's format without a passphrase.", remedy)
