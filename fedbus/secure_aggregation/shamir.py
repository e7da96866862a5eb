"""Shamir's secret sharing of 32 bytes, by PyCryptodome in two halves: it shares elements of GF(2^128)."""

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

HALF = 16
SECRET_BYTES = 2 * HALF
"""Bytes of a secret, and of each share."""


def split(secret: bytes, threshold: int, number: int) -> list[bytes]:
    """Split a secret of 32 bytes into shares of 32 bytes, any `threshold` of which rebuild it; fewer tell nothing."""
    halves = [Shamir.split(threshold, number, secret[start : start + HALF], False) for start in (0, HALF)]
    return [first[1] + second[1] for first, second in zip(*halves, strict=True)]


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Rebuild a secret.

    Args:
        shares: At least `threshold` shares by their position in what `split` returned.
        threshold: As in `split`.
    """
    used = sorted(shares.items())[:threshold]
    halves = [[(place + 1, share[start : start + HALF]) for place, share in used] for start in (0, HALF)]
    return b"".join(Shamir.combine(half, False) for half in halves)
