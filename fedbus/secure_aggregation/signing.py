"""A site's fresh public keys, signed with the key by which its owner and the hub know it."""

from dataclasses import dataclass
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import public_line
from fedbus.errors import RunError
from fedbus.secure_aggregation.fields import read_fields, write_fields
from fedbus.secure_aggregation.terms import SessionTerms

_SIZES = {"mask": 32, "share": 32, "seed": 32, "signature": 0}


@dataclass(frozen=True)
class SignedKeys:
    """What a site publishes first.

    Attributes:
        mask: X25519 public key for masks, 32 bytes.
        share: X25519 public key for shares, 32 bytes.
        seed: SHA-256 commitment to the site's self-mask seed, 32 bytes, by which a wrong share of it is found.
        signature: ECDSA of the terms, the site's name and the three, with SHA-256.
    """

    mask: bytes
    share: bytes
    seed: bytes
    signature: bytes

    @classmethod
    def sign(
        cls, terms: SessionTerms, name: str, key: ec.EllipticCurvePrivateKey, mask: bytes, share: bytes, seed: bytes
    ) -> Self:
        """Sign fresh keys with a site's own key."""
        content = _signed(terms, name, mask, share, seed)
        return cls(mask, share, seed, key.sign(content, ec.ECDSA(hashes.SHA256())))

    def to_bytes(self) -> bytes:
        """Return them as a message."""
        return write_fields({"mask": self.mask, "share": self.share, "seed": self.seed, "signature": self.signature})

    @classmethod
    def read(cls, data: bytes, terms: SessionTerms, name: str) -> Self:
        """Read the keys of a site and verify that the site itself signed them, for this session.

        Raises:
            RunError: If the message is damaged, the site is not in the roster, or another key signed.
        """
        keys = cls(**read_fields(data, _SIZES, f"The keys of {name}"))
        content = _signed(terms, name, keys.mask, keys.share, keys.seed)
        try:
            roster_key(terms, name).verify(keys.signature, content, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise RunError(
                f"The keys of {name} are not signed by its own key for this session.",
                "Somebody may pretend to be this site. Compare its fingerprint with its data manager.",
            ) from None
        return keys


def roster_key(terms: SessionTerms, name: str) -> ec.EllipticCurvePublicKey:
    """Return the public key of a site.

    Raises:
        RunError: If the roster has none, or none that signs.
    """
    if name not in terms.roster:
        raise RunError(f"{name} is not a site of this secure sum.", "Ask the coordinator for the list of sites.")
    try:
        key = serialization.load_ssh_public_key(terms.roster[name].encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise RunError(
            f"The key of {name} can't be read.", "Ask the coordinator for a correct list of sites."
        ) from error
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise RunError(f"The key of {name} is not an ECDSA key.", "Ask the coordinator for a correct list of sites.")
    return key


def check_own_key(terms: SessionTerms, name: str, key: ec.EllipticCurvePrivateKey) -> None:
    """Refuse terms in which this site has another key.

    Raises:
        RunError: If it has, or is not in the roster.
    """
    if public_line(roster_key(terms, name), "") != public_line(key.public_key(), ""):
        raise RunError(
            f"The hub's list of sites has another key for {name} than its own.",
            "Nothing was sent. Ask the coordinator who else uses this name.",
        )


def _signed(terms: SessionTerms, name: str, mask: bytes, share: bytes, seed: bytes) -> bytes:
    """Return what is signed; its first words keep it apart from all else that the key signs."""
    return b"fedbus secure aggregation keys\0" + terms.digest() + mask + share + seed + name.encode()
