"""The shares of a site's two secrets for another site, encrypted, because the hub passes them on."""

import hashlib
from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from fedbus.errors import RunError
from fedbus.secure_aggregation.masks import agree, derive_key
from fedbus.secure_aggregation.shamir import SECRET_BYTES

SEALED_BYTES = 2 * SECRET_BYTES + 16 + 2 * 32
"""Bytes of a sealed pair: the two shares encrypted, their tag, and the digest of each."""

_NONCE = bytes(12)
"""The key encrypts one message only."""


@dataclass(frozen=True)
class SharePair:
    """What a site keeps for another one, and reveals one half of.

    Attributes:
        seed: Share of the other site's self-mask seed, 32 bytes.
        key: Share of the other site's private mask key, 32 bytes.
    """

    seed: bytes
    key: bytes

    def digests(self) -> tuple[bytes, bytes]:
        """Return the SHA-256 of each share; shares are random, so a digest tells nothing about them."""
        return digest_of_share(self.seed), digest_of_share(self.key)

    def seal(self, own_key: bytes, other_key: bytes, terms: bytes, sender: str, receiver: str) -> bytes:
        """Encrypt the pair for its receiver.

        Args:
            own_key: The private share key of the sender.
            other_key: The public share key of the receiver.
            terms: The digest of the session's terms.
            sender: The site whose secrets are shared.
            receiver: The site that keeps the shares.
        """
        cipher, context = _cipher(agree(own_key, other_key, receiver), terms, sender, receiver)
        return cipher.encrypt(_NONCE, self.seed + self.key, context) + b"".join(self.digests())

    @classmethod
    def open(cls, sealed: bytes, own_key: bytes, other_key: bytes, terms: bytes, sender: str, receiver: str) -> Self:
        """Decrypt a pair at its receiver; arguments as in `seal`, with the keys exchanged.

        Raises:
            RunError: If another site encrypted it, it was for another one or another session, or the digests differ.
        """
        encrypted, first, second = split_sealed(sealed, sender)
        cipher, context = _cipher(agree(own_key, other_key, sender), terms, sender, receiver)
        try:
            plain = cipher.decrypt(_NONCE, encrypted, context)
        except InvalidTag:
            raise wrong_share(sender) from None
        pair = cls(plain[:SECRET_BYTES], plain[SECRET_BYTES:])
        if pair.digests() != (first, second):
            raise wrong_share(sender)
        return pair


def split_sealed(sealed: bytes, sender: str) -> tuple[bytes, bytes, bytes]:
    """Return the encrypted pair, and the digests of the seed's share and the key's.

    Raises:
        RunError: If it has another size.
    """
    if not isinstance(sealed, bytes) or len(sealed) != SEALED_BYTES:
        raise wrong_share(sender)
    return sealed[:-64], sealed[-64:-32], sealed[-32:]


def digest_of_share(share: bytes) -> bytes:
    """Return the digest by which hub and sites recognise a share."""
    return hashlib.sha256(b"fedbus share" + share).digest()


def commit_to_seed(seed: bytes) -> bytes:
    """Return the digest by which a rebuilt seed is recognised."""
    return hashlib.sha256(b"fedbus seed" + seed).digest()


def wrong_share(sender: str) -> RunError:
    """Make the error for a share that its receiver can't use."""
    return RunError(
        f"A share of {sender} is damaged or was not made for this site and session.",
        "Rerun with --resume; if it happens again, check the site and the hub.",
    )


def _cipher(secret: bytes, terms: bytes, sender: str, receiver: str) -> tuple[ChaCha20Poly1305, bytes]:
    """Return the cipher of two sites for one direction, and what is authenticated with the message."""
    names = sender.encode(), receiver.encode()
    context = terms + b"".join(hashlib.sha256(name).digest() for name in names)
    return ChaCha20Poly1305(derive_key(secret, b"share", terms, *names)), context
