"""A hub and sites that run a session in this process."""

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, settings
from numpy.typing import NDArray

from fedbus.deployment.keys import public_line
from fedbus.secure_aggregation.hub_session import HubSession
from fedbus.secure_aggregation.site_session import SiteSession
from fedbus.secure_aggregation.terms import SessionTerms

SITE_KEYS = [ec.derive_private_key(1000 + number, ec.SECP384R1()) for number in range(12)]
"""Keys of sites, always the same ones."""

PROPERTY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
"""Always the same examples, and no limit on time, which depends on what else the machine does."""

Vectors = tuple[NDArray[np.uint32], NDArray[np.uint64]]


def site_names(number: int) -> list[str]:
    return [f"site-{place:02}" for place in range(number)]


def make_terms(number: int, **changes: object) -> SessionTerms:
    """Terms for the first `number` sites."""
    roster = {
        name: public_line(key.public_key(), name) for name, key in zip(site_names(number), SITE_KEYS, strict=False)
    }
    terms = SessionTerms(
        session="0123456789abcdef" * 2, title="a run", run="cafe", arm="fedavg", round=1, purpose="train",
        instruction="1" * 64, model="2" * 64, total_weight=float(number), update_range=4.0, layout="3" * 64,
        roster=roster,
    )  # fmt: skip
    return dataclasses.replace(terms, **changes)  # type: ignore[arg-type]


@dataclass
class Parties:
    """A session with its hub and its sites."""

    terms: SessionTerms
    hub: HubSession
    sites: dict[str, SiteSession]
    key_messages: dict[str, bytes]

    @classmethod
    def start(
        cls, number: int, size: tuple[int, int] = (5, 2), quorum: int = 3, present: int | None = None
    ) -> "Parties":
        """Start a session in which the first `present` sites take part."""
        terms = make_terms(number)
        names = site_names(number)[:present]
        started = {name: SiteSession.start(terms, name, key) for name, key in zip(names, SITE_KEYS, strict=False)}
        return cls(
            terms, HubSession(terms, size, quorum),
            {name: site for name, (site, _) in started.items()}, {name: data for name, (_, data) in started.items()},
        )  # fmt: skip

    def share(self, away: Collection[str] = ()) -> dict[str, dict[str, bytes]]:
        """Run keys and shares; sites that are away send no shares. Return the sealed shares by receiver."""
        keys = self.hub.take_keys(self.key_messages)
        return self.hub.take_shares({name: self.sites[name].share(keys) for name in keys if name not in away})

    def reload(self) -> None:
        """Store and read the state of each site, as between two messages."""
        self.sites = {name: SiteSession.from_bytes(site.to_bytes()) for name, site in self.sites.items()}

    def mask(self, vectors: Mapping[str, Vectors], sealed: Mapping[str, Mapping[str, bytes]]) -> dict[str, Vectors]:
        """Let sites mask copies of their vectors."""
        masked = {}
        self.reload()
        for name, (values, numbers) in vectors.items():
            masked[name] = values.copy(), numbers.copy()
            self.sites[name].accept(sealed[name])
        self.reload()
        for name in masked:
            self.sites[name].mask(*masked[name])
        return masked

    def collect(self, masked: Mapping[str, Vectors]) -> list[str]:
        """Let the hub add what arrived; return the survivors."""
        for name, vectors in masked.items():
            assert self.hub.add(name, *vectors)
        return self.hub.survivors()

    def unmask(self, survivors: Collection[str], away: Collection[str] = ()) -> Vectors:
        """Run the last step; sites that are away reveal nothing."""
        self.reload()
        return self.hub.unmask({name: self.sites[name].unmask(survivors) for name in survivors if name not in away})


def some_vectors(names: Collection[str], size: tuple[int, int] = (5, 2), seed: int = 0) -> dict[str, Vectors]:
    """Random vectors of sites."""
    random = np.random.default_rng(seed)
    return {
        name: (random.integers(0, 2**32, size[0], np.uint32), random.integers(0, 2**64, size[1], np.uint64))
        for name in sorted(names)
    }


def is_sum(found: Vectors, vectors: Collection[Vectors]) -> bool:
    """Whether vectors are the sums of others, computed in Python's integers."""
    return all(
        [int(value) for value in found[which]]
        == [sum(int(vector[which][place]) for vector in vectors) % modulus for place in range(len(found[which]))]
        for which, modulus in ((0, 2**32), (1, 2**64))
    )
