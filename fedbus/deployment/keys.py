"""How hub and sites name a site's public key: its fingerprint, and the line of text that travels."""

import base64

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

KEY_TYPE = "ecdsa-sha2-nistp384"
"""The one kind of key: ECDSA on P-384, which Flower's nodes sign with; as OpenSSH calls it."""


def fingerprint_of(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of a public key as `ssh-keygen -lf` prints it: `SHA256:` and 43 characters of base64."""
    digest = serialization.ssh_key_fingerprint(key, hashes.SHA256())
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def public_line(key: ec.EllipticCurvePublicKey, name: str) -> str:
    """A site's public key file: kind, key and the site's name, one line in OpenSSH's format."""
    line = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    return f"{line} {name}\n"
