"""Which approved key has signed a request, as its headers show: before any of the body is read."""

import base64
from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fedbus.deployment.keys import fingerprint_of
from server.flower_internals import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS, verify_signature

MAX_HEADER_CHARACTERS = 1024
"""Of a header that is decoded here; a public key has 288, a signature at most 140."""


def signing_key(headers: Mapping[str, str], approved: Collection[str]) -> str:
    """Return the fingerprint of the approved key that has signed the request's time; empty if there is none.

    The rules are Flower's own: the SuperLink checks the same again, and that the key belongs to the node.
    """
    public, signature, timestamp = (
        headers.get(name, "") for name in ("flwr-public-key", "flwr-signature", "flwr-timestamp")
    )
    if max(len(public), len(signature), len(timestamp)) > MAX_HEADER_CHARACTERS:
        return ""
    try:
        if not _is_recent(timestamp):
            return ""
        key = load_pem_public_key(base64.b64decode(public, validate=True))
        if not isinstance(key, ec.EllipticCurvePublicKey):
            return ""
        fingerprint = fingerprint_of(key)
        if fingerprint not in approved:  # the signature last: checking it takes longest
            return ""
        signed = verify_signature(key, timestamp.encode("ascii"), base64.b64decode(signature, validate=True))
    except (ValueError, UnsupportedAlgorithm):  # not base64, not ASCII, or a curve that OpenSSH has no name for
        return ""
    return fingerprint if signed else ""


def _is_recent(timestamp: str) -> bool:
    signed = datetime.fromisoformat(timestamp)
    if signed.tzinfo is None:
        return False
    return MIN_TIMESTAMP_DIFF_SECONDS < (datetime.now(UTC) - signed).total_seconds() < MAX_TIMESTAMP_DIFF_SECONDS
