"""A site's key pair: with the private key, the site proves to the hub that a call is its own."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.deployment.private_folder import read_bytes, write_private
from fedbus.errors import RunError


def make_key_pair(private: Path, public: Path, name: str) -> None:
    """Write a new ECDSA key pair on P-384 in OpenSSH's format; the private key has no passphrase and mode 0600.

    Args:
        private: File of the private key; must not exist.
        public: File of the public key, which is sent to the hub.
        name: The site's name, written as the comment of the public key.

    Raises:
        OSError: If a file can't be written, or the private one exists.
    """
    key = ec.generate_private_key(ec.SECP384R1())
    # No passphrase: the site joins again after a restart of the machine, when no person could enter it.
    content = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    write_private(private, content)
    public.write_text(public_line(key.public_key(), name), encoding="utf-8")


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the private key.

    Raises:
        RunError: If it can't be read, is damaged, has a passphrase or is not an ECDSA key on P-384.
    """
    try:
        key = serialization.load_ssh_private_key(read_bytes(path), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a passphrase
        raise _unusable(path) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP384R1):
        raise _unusable(path)
    return key


def fingerprint(private: Path) -> str:
    """Compute the fingerprint (`SHA256:...`) of a site's public key from its private key; the hub shows the same.

    Raises:
        RunError: As `read_private_key`.
    """
    return fingerprint_of(read_private_key(private).public_key())


def _unusable(path: Path) -> RunError:
    return RunError(
        f"{path} is not an ECDSA key on P-384 in OpenSSH's format without a passphrase.",
        "Restore it from a backup, or make a new site with `fedbus site init` and have its key approved.",
    )
