"""A site's public key as hub and sites show it: the fingerprint and the line of the key file."""

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY_TYPE = "ecdsa-sha2-nistp384"
"""OpenSSH's name of the only supported key type: ECDSA on P-384, with which Flower's nodes sign."""


def fingerprint_of(key: ec.EllipticCurvePublicKey) -> str:
    """Return the SHA-256 of a public key as `ssh-keygen -lf` prints it: `SHA256:` and 43 characters of base64."""
    digest = serialization.ssh_key_fingerprint(key, hashes.SHA256())
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_line(key: ec.EllipticCurvePublicKey, name: str) -> str:
    """Return the content of a site's public key file: type, key and site name, one line in OpenSSH's format."""
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return f"{line} {name}\n"
