"""Shamir's secret sharing of 32 bytes in two halves, which are elements of GF(2^128).

PyCryptodome splits a secret. It could also rebuild one, but interpolates each secret from the start in Python, so that
a hub with a hundred sites would need 20 s per round. The weights of the interpolation depend only on which sites kept
the shares, so they are computed here once for all secrets with the same keepers; the secrets are the same.
"""

from collections.abc import Mapping
from functools import lru_cache

from Crypto.Protocol.SecretSharing import Shamir

HALF = 16
SECRET_BYTES = 2 * HALF
"""Bytes of a secret, and of each share."""

BITS = 8 * HALF
MODULUS = (1 << BITS) | 0b10000111
"""PyCryptodome's polynomial x^128 + x^7 + x^2 + x + 1; bit i of an integer is the coefficient of x^i."""

MOST_KEPT = 1024
"""Sets of keepers whose weights are kept for the next round: a session has at most as many as sites."""


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
    weights = _weights(tuple(place + 1 for place, _ in used))
    secret = b""
    for start in (0, HALF):
        total = 0
        for weight, (_, share) in zip(weights, used, strict=True):
            total ^= _multiply(weight, int.from_bytes(share[start : start + HALF]))
        secret += _reduce(total).to_bytes(HALF)
    return secret


@lru_cache(maxsize=MOST_KEPT)
def _weights(points: tuple[int, ...]) -> tuple[int, ...]:
    """Return Lagrange's weights for the value at 0 of a polynomial that is known at distinct points.

    The weight of point x is the product of m / (m - x) over all other points m; subtraction is XOR. Points are small
    numbers, so their products take few steps.
    """
    whole, weights = 1, []
    for point in points:
        whole = _reduce(_multiply(whole, point))
    for point in points:
        divisor = point
        for other in points:
            if other != point:
                divisor = _reduce(_multiply(divisor, other ^ point))
        weights.append(_reduce(_multiply(whole, _inverse(divisor))))
    return tuple(weights)


def _multiply(first: int, second: int) -> int:
    """Multiply two polynomials over GF(2), without reduction."""
    if second > first:
        first, second = second, first
    product = 0
    while second:
        if second & 1:
            product ^= first
        first <<= 1
        second >>= 1
    return product


def _reduce(polynomial: int) -> int:
    """Return a polynomial modulo `MODULUS`."""
    while high := polynomial >> BITS:
        polynomial ^= _multiply(MODULUS, high)
    return polynomial


def _inverse(element: int) -> int:
    """Return the inverse of an element other than 0, by the extended algorithm of Euclid."""
    left, right, factor, other = element, MODULUS, 1, 0
    while left != 1:
        shift = left.bit_length() - right.bit_length()
        if shift < 0:
            left, right, factor, other, shift = right, left, other, factor, -shift
        left ^= right << shift
        factor ^= other << shift
    return _reduce(factor)
