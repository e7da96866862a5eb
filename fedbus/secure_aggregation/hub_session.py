"""The hub in one session: it passes messages on, adds the masked vectors, and removes the masks of the sum.

A site whose message is missing or wrong is left out and named in `refused`; the session continues with the others if
they are enough.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from fedbus.errors import FedbusError, RunError, listed
from fedbus.secure_aggregation.fields import read_fields
from fedbus.secure_aggregation.masks import Mask, add_masks, agree, negated, pair_mask, self_mask
from fedbus.secure_aggregation.sealed_shares import commit_to_seed, digest_of_share, split_sealed
from fedbus.secure_aggregation.shamir import SECRET_BYTES, combine
from fedbus.secure_aggregation.signing import SignedKeys
from fedbus.secure_aggregation.site_session import NUMBERS, VALUES
from fedbus.secure_aggregation.terms import SessionTerms


@dataclass
class HubSession:
    """The state of the hub in a session. Call in this order: `take_keys`, `take_shares`, `add`, `survivors`, `unmask`.

    Attributes:
        terms: The terms of the session.
        size: The number of values (uint32) and of numbers (uint64) that each site sends.
        quorum: Fewer sites than this are refused, as are fewer than `terms.fewest`.
        refused: Why sites were left out, by name.
    """

    terms: SessionTerms
    size: tuple[int, int]
    quorum: int = 0
    refused: dict[str, str] = field(default_factory=dict)
    _keys: dict[str, SignedKeys] = field(default_factory=dict)
    _sealed: dict[str, dict[str, bytes]] = field(default_factory=dict)
    _masked: set[str] = field(default_factory=set)
    _closed: bool = False
    _unmasked: bool = False

    def __post_init__(self) -> None:
        self.values = np.zeros(self.size[0], dtype=np.uint32)
        self.numbers = np.zeros(self.size[1], dtype=np.uint64)

    def take_keys(self, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        """Verify the sites' keys.

        Args:
            messages: What sites returned from `SiteSession.start`, by name; sites that are away are missing.

        Returns:
            The messages to pass on, all of them to each of these sites.

        Raises:
            RunError: If too few are left.
        """
        for name, data in sorted(messages.items()):
            try:
                self._keys[name] = SignedKeys.read(data, self.terms, name)
            except FedbusError as error:
                self.refused[name] = str(error)
        self._check_number("sent keys", list(self._keys))
        return {name: messages[name] for name in self._keys}

    def take_shares(self, messages: Mapping[str, Mapping[str, bytes]]) -> dict[str, dict[str, bytes]]:
        """Collect the sealed shares.

        Args:
            messages: What sites returned from `SiteSession.share`, by name.

        Returns:
            The sealed shares for each of these sites, by receiver, then by sender.

        Raises:
            RunError: If too few are left.
        """
        for name, sealed in sorted(messages.items()):
            try:
                self._check_sealed(name, sealed)
            except FedbusError as error:
                self.refused[name] = str(error)
            else:
                self._sealed[name] = dict(sealed)
        self._check_number("shared their secrets", list(self._sealed))
        return {
            receiver: {sender: sealed[receiver] for sender, sealed in self._sealed.items() if sender != receiver}
            for receiver in self._sealed
        }

    def add(self, name: str, values: NDArray[np.uint32], numbers: NDArray[np.uint64]) -> bool:
        """Add a site's masked vectors to the sum; they can be freed then.

        Returns:
            Whether they were added; if not, `refused` has the reason.
        """
        reason = ""
        if name not in self._sealed:
            reason = "It sent masked values without having shared its secrets."
        elif name in self._masked:
            reason = "It sent a second masked vector in one session; the first one counts."
        elif self._closed:
            reason = "Its masked vector came too late."
        elif values.dtype != np.uint32 or numbers.dtype != np.uint64 or (values.shape, numbers.shape) != (
            (self.size[0],), (self.size[1],),
        ):  # fmt: skip
            reason = "Its masked vectors have another size or type than the model. Run the same version everywhere."
        if reason:
            self.refused[name] = reason
            return False
        self._masked.add(name)
        self.values += values
        self.numbers += numbers
        return True

    def survivors(self) -> list[str]:
        """Return the sites whose masked vectors arrived: the list to send to each of them. Later ones are refused.

        Raises:
            RunError: If they are too few.
        """
        self._check_number("sent masked values", list(self._masked))
        self._closed = True
        return sorted(self._masked)

    def unmask(self, messages: Mapping[str, bytes]) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        """Rebuild the survivors' seeds and the mask keys of sites that are away, and remove all masks from the sum.

        Args:
            messages: What survivors returned from `SiteSession.unmask`, by name.

        Returns:
            The exact sums of the survivors' vectors, modulo 2^32 and 2^64.

        Raises:
            RunError: If too few shares are left, or a site shared a secret that is not its own.
        """
        if self._unmasked:
            raise RunError(f"The sum of session {self.terms.session} is unmasked already.", "Report this as a bug.")
        survivors, digest = self.survivors(), self.terms.digest()
        shares = self._read_shares(messages)
        masks: list[Mask] = []
        for name in survivors:
            seed = self._rebuild(name, shares)
            if commit_to_seed(seed) != self._keys[name].seed:
                raise _not_its_own(name)
            masks.append(self_mask(seed, digest, name))
        for name in sorted(self._sealed.keys() - self._masked):
            key = self._rebuild(name, shares)
            if X25519PrivateKey.from_private_bytes(key).public_key().public_bytes_raw() != self._keys[name].mask:
                raise _not_its_own(name)
            # What each survivor added because of the missing site; the missing site's own mask is its negative.
            masks += negated(
                [pair_mask(agree(key, self._keys[other].mask, other), digest, name, other) for other in survivors]
            )
        self._unmasked = True
        add_masks(self.values, negated(masks), VALUES)
        add_masks(self.numbers, negated(masks), NUMBERS)
        return self.values, self.numbers

    def _rebuild(self, owner: str, shares: Mapping[str, Mapping[str, bytes]]) -> bytes:
        """Rebuild a secret of a site; its own share, which no digest covers, is used only if it is needed."""
        keepers = sorted(shares[owner], key=lambda keeper: (keeper == owner, keeper))[: self.terms.threshold]
        places = {name: place for place, name in enumerate(sorted(self.terms.roster))}
        return combine({places[keeper]: shares[owner][keeper] for keeper in keepers}, self.terms.threshold)

    def _read_shares(self, messages: Mapping[str, bytes]) -> dict[str, dict[str, bytes]]:
        """Return the correct shares by the site whose secret they are parts of, then by their keeper."""
        sizes = dict.fromkeys(self._sealed, SECRET_BYTES)
        found: dict[str, dict[str, bytes]] = {name: {} for name in self._sealed}
        answered = []
        for keeper in sorted(messages.keys() & self._masked):
            try:
                shares = read_fields(messages[keeper], sizes, f"The shares that {keeper} revealed")
                for owner, share in shares.items():
                    self._check_share(owner, keeper, share)
            except FedbusError as error:
                self.refused[keeper] = str(error)
                continue
            answered.append(keeper)
            for owner, share in shares.items():
                found[owner][keeper] = share
        self._check_number("revealed their shares", answered, self.terms.threshold)
        return found

    def _check_share(self, owner: str, keeper: str, share: bytes) -> None:
        """Refuse a share other than the one that its owner announced; a site does not announce its own share."""
        if owner == keeper:
            return
        _, seed, key = split_sealed(self._sealed[owner][keeper], owner)
        if digest_of_share(share) != (seed if owner in self._masked else key):
            raise RunError(f"{keeper} revealed a wrong share of {owner}.", "Check that site.")

    def _check_sealed(self, name: str, sealed: Mapping[str, bytes]) -> None:
        if name not in self._keys or sealed.keys() != self._keys.keys() - {name}:
            raise RunError(f"{name} did not make one share for each other site.", "Run the same version everywhere.")
        for receiver in sealed:
            split_sealed(sealed[receiver], name)

    def _check_number(self, what: str, sites: list[str], fewest: int = 0) -> None:
        """Refuse to continue with too few sites, and name the others."""
        fewest = fewest or max(self.terms.fewest, self.quorum)
        if len(sites) >= fewest:
            return
        missing = sorted(self.terms.roster.keys() - set(sites))
        reasons = [f"{name} ({self.refused[name]})" if name in self.refused else name for name in missing]
        raise RunError(
            f"Only {len(sites)} of {len(self.terms.roster)} sites {what}; {fewest} are needed."
            f" Missing: {listed(reasons)}.",
            "Wait until these sites are back, then rerun with --resume; finished rounds are kept.",
        )


def _not_its_own(name: str) -> RunError:
    return RunError(
        f"{name} shared a secret that does not fit its keys, so the sum can't be unmasked.",
        f"Check {name} or leave it out, then rerun with --resume.",
    )
