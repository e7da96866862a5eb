"""A site's key pair: with the private key, the site proves to the hub that a call is its own."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment import private_key
from fedbus.deployment.keys import fingerprint_of, public_line

_REMEDY = "Restore it from a backup, or make a new site with `fedbus site init` and have its key approved."


def make_key_pair(private: Path, public: Path, name: str) -> None:
    """Write a new key pair.

    Args:
        private: File of the private key; must not exist.
        public: File of the public key, which is sent to the hub.
        name: The site's name, written as the comment of the public key.

    Raises:
        OSError: If a file can't be written, or the private one exists.
    """
    key = private_key.write_new_key(private)
    public.write_text(public_line(key.public_key(), name), encoding="utf-8")


def read_private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """Read the private key.

    Raises:
        RunError: If it can't be read, is damaged, has a passphrase or is not an ECDSA key on P-384.
    """
    return private_key.read_private_key(path, _REMEDY)


def fingerprint(private: Path) -> str:
    """Compute the fingerprint (`SHA256:...`) of a site's public key from its private key; the hub shows the same.

    Raises:
        RunError: As `read_private_key`.
    """
    return fingerprint_of(read_private_key(private).public_key())
