"""One site in one session: it publishes keys, shares its secrets, masks its vectors once, and unmasks one list once.

Between two messages the site's state is bytes (`to_bytes`, `from_bytes`), because another process may get the next one.
They contain the site's secrets, and must stay in its memory or its own folder.
"""

import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.secure_aggregation.fields import canonical_json, damaged, read_json_object, write_fields
from fedbus.secure_aggregation.masks import Mask, add_masks, agree, pair_mask, self_mask
from fedbus.secure_aggregation.sealed_shares import SharePair, commit_to_seed
from fedbus.secure_aggregation.shamir import split
from fedbus.secure_aggregation.signing import SignedKeys, check_own_key
from fedbus.secure_aggregation.terms import SessionTerms

VALUES, NUMBERS = b"values", b"numbers"
"""Names of the two vectors of a session: the update (uint32) and the numbers of the report (uint64)."""


@dataclass
class SiteSession:
    """The state of a site in a session. Call in this order: `start`, `share`, `accept`, `mask`, `unmask`.

    Attributes:
        terms: The terms that it signed.
        name: The site.
        mask_key: Its private key for masks.
        share_key: Its private key for shares.
        seed: The seed of its self-mask.
        keys: The verified keys of the sites that take part, by name; empty before `share`.
        pairs: The shares that it keeps, by the name of the site whose secrets they are parts of; empty before `accept`.
        masked: Whether it has masked its vectors.
        survivors: The sites of the only sum that it unmasks; empty before `unmask`.
    """

    terms: SessionTerms
    name: str
    mask_key: bytes
    share_key: bytes
    seed: bytes
    keys: dict[str, SignedKeys] = field(default_factory=dict)
    pairs: dict[str, SharePair] = field(default_factory=dict)
    masked: bool = False
    survivors: list[str] = field(default_factory=list)

    @classmethod
    def start(cls, terms: SessionTerms, name: str, key: ec.EllipticCurvePrivateKey) -> tuple[Self, bytes]:
        """Draw fresh keys and sign them with the site's own key (Bonawitz, round 0).

        Args:
            terms: The terms, from `SessionTerms.from_bytes`, which checks them.
            name: The site.
            key: The key by which the roster knows it.

        Returns:
            The state, and the message for the hub.

        Raises:
            RunError: If the roster has no key of this site, or another one.
        """
        check_own_key(terms, name, key)
        mask, share, seed = X25519PrivateKey.generate(), X25519PrivateKey.generate(), os.urandom(32)
        signed = SignedKeys.sign(
            terms, name, key, mask.public_key().public_bytes_raw(), share.public_key().public_bytes_raw(),
            commit_to_seed(seed),
        )  # fmt: skip
        return cls(
            terms, name, mask.private_bytes_raw(), share.private_bytes_raw(), seed, {name: signed}
        ), signed.to_bytes()

    def share(self, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        """Verify the keys of all sites, and split this site's two secrets between them (Bonawitz, round 1).

        Args:
            messages: What each site returned from `start`, by name.

        Returns:
            A sealed pair of shares for each other site, by name.

        Raises:
            RunError: If there are too few sites, a signature is wrong, this site's keys differ, or it shared already.
        """
        if len(self.keys) > 1:
            raise _repeated("shares", self.terms)
        own = self.keys[self.name]
        self._check_number("keys", messages)
        keys = {name: SignedKeys.read(messages[name], self.terms, name) for name in sorted(messages)}
        if keys.get(self.name) != own:
            raise RunError("The hub returned other keys of this site than it sent.", _NOT_SENT)
        places, threshold = sorted(self.terms.roster), self.terms.threshold
        seeds = split(self.seed, threshold, len(places))
        parts = split(self.mask_key, threshold, len(places))
        pairs = {name: SharePair(seeds[place], parts[place]) for place, name in enumerate(places)}
        self.keys, self.pairs = keys, {self.name: pairs[self.name]}
        return {
            name: pairs[name].seal(self.share_key, keys[name].share, self.terms.digest(), self.name, name)
            for name in keys
            if name != self.name
        }

    def accept(self, sealed: Mapping[str, bytes]) -> None:
        """Decrypt the shares that the other sites made for this one; call it before the site trains.

        Store the state before training starts: another process that gets the same message then refuses it, and the hub
        can't have two masked vectors of one session, whose difference would show a change of the update.

        Args:
            sealed: What the other sites returned from `share` for this one, by sender. A site that is missing here is
                away; this site's masks do without it.

        Raises:
            RunError: If there are too few, one is wrong, or this site has already accepted shares.
        """
        if len(self.keys) == 1 or len(self.pairs) > 1:
            raise _repeated("a model", self.terms)
        self._check_number("shares", {self.name, *sealed})
        unknown = sorted(sealed.keys() - self.keys.keys() | sealed.keys() & {self.name})
        if unknown:
            raise RunError(f"The hub sent shares of {unknown[0]}, which this site does not expect.", _NOT_SENT)
        opened = {
            name: SharePair.open(
                sealed[name], self.share_key, self.keys[name].share, self.terms.digest(), name, self.name
            )
            for name in sorted(sealed)
        }
        self.pairs |= opened

    def mask(self, values: NDArray[np.uint32], numbers: NDArray[np.uint64]) -> None:
        """Add this site's masks to its vectors, in place; once per session (Bonawitz, round 2).

        Args:
            values: From `fixed_point.encode_update`; empty if the session sums no update.
            numbers: From `numbers.encode_numbers`.

        Raises:
            RunError: If it has no shares of the other sites yet, or has masked already.
        """
        if self.masked or len(self.pairs) == 1:
            raise _repeated("masked vectors", self.terms)
        self.masked, digest = True, self.terms.digest()
        masks: list[Mask] = [self_mask(self.seed, digest, self.name)]
        for other in sorted(self.pairs.keys() - {self.name}):
            masks.append(pair_mask(agree(self.mask_key, self.keys[other].mask, other), digest, self.name, other))
        add_masks(values, masks, VALUES)
        add_masks(numbers, masks, NUMBERS)

    def unmask(self, survivors: Collection[str]) -> bytes:
        """Reveal what the hub needs to remove the masks of one sum (Bonawitz, round 4).

        Args:
            survivors: The sites whose masked vectors arrived.

        Returns:
            The share of the seed of each survivor, and the share of the mask key of each other site: never both of one.

        Raises:
            RunError: If there are too few survivors, this site is not one, one never took part, or the site has
                unmasked another list in this session.
        """
        wanted = sorted(survivors)
        if not self.masked or self.name not in wanted:
            raise RunError("The hub asks to unmask a sum without this site's vector.", _NOT_SENT)
        if self.survivors and wanted != self.survivors:
            raise _repeated("another sum", self.terms)
        unknown = sorted(set(wanted) - self.pairs.keys())
        if unknown or len(set(wanted)) < len(wanted):
            raise RunError(f"The hub asks to unmask a sum with {unknown or 'a site twice'}.", _NOT_SENT)
        self._check_number("vectors", wanted)
        self.survivors = wanted
        return write_fields(
            {
                name: (pair.seed if name in wanted else pair.key)
                for name, pair in self.pairs.items()
            }
        )  # fmt: skip

    def to_bytes(self) -> bytes:
        """Return the state, secrets included."""
        return canonical_json(
            {
                "terms": self.terms.to_bytes().hex(),
                "name": self.name,
                "secrets": [self.mask_key.hex(), self.share_key.hex(), self.seed.hex()],
                "keys": {
                    name: _hexes(keys.mask, keys.share, keys.seed, keys.signature) for name, keys in self.keys.items()
                },
                "pairs": {name: _hexes(pair.seed, pair.key) for name, pair in self.pairs.items()},
                "masked": self.masked,
                "survivors": self.survivors,
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a state.

        Raises:
            RunError: If it is damaged.
        """
        what = "The state of a secure sum"
        values: dict[str, Any] = read_json_object(data, what)
        try:
            mask_key, share_key, seed = _secrets(values["secrets"], 3)
            return cls(
                SessionTerms.from_bytes(bytes.fromhex(values["terms"])),
                str(values["name"]),
                mask_key,
                share_key,
                seed,
                {name: _read_keys(texts) for name, texts in values["keys"].items()},
                {name: SharePair(*_secrets(texts, 2)) for name, texts in values["pairs"].items()},
                bool(values["masked"]),
                list(values["survivors"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise damaged(what, error) from error

    def _check_number(self, what: str, sites: Collection[str]) -> None:
        """Refuse a step with too few sites: then the sum would hide this site among too few."""
        if len(sites) < self.terms.fewest:
            raise RunError(
                f"The hub sent {what} of {len(sites)} sites; a secure sum of {len(self.terms.roster)} sites needs"
                f" {self.terms.fewest}.",
                "Nothing was sent. Ask the coordinator which sites are away, then rerun with --resume.",
            )


_NOT_SENT = "Nothing was sent. Ask the coordinator to check the hub."


def _repeated(what: str, terms: SessionTerms) -> RunError:
    return RunError(
        f"The hub asks for {what} a second time, or too early, in session {terms.session}.",
        "Nothing was sent. Rerun with --resume: a repeated round uses fresh keys.",
    )


def _read_keys(texts: Any) -> SignedKeys:
    mask, share, seed = _secrets(texts[:3], 3)
    return SignedKeys(mask, share, seed, bytes.fromhex(texts[3]))


def _secrets(texts: Any, number: int) -> list[bytes]:
    """Read keys, seeds or shares, which all have 32 bytes."""
    secrets = [bytes.fromhex(text) for text in texts]
    if [len(secret) for secret in secrets] != [32] * number:
        raise ValueError(f"{len(secrets)} secrets, or one that has not 32 bytes")
    return secrets


def _hexes(*parts: bytes) -> list[str]:
    return [part.hex() for part in parts]
