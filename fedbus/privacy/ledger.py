"""What a site has released in a training that protects its patients, and the secret of its noise.

    SITE/released/DIGEST/privacy.json          at a deployed site: see `clients.released`
    OUT/memory/TITLE[-RUN]/SITE/privacy.json   in a simulation

It is written before a round is trained, so before an update can leave. A site trusts no round number: every different
result counts, whatever the hub calls it, and once there are as many as the training was to have rounds, the budget is
spent. A result that is repeated (see `fedbus.privacy.release`) counts once.
"""

import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

from fedbus.errors import RunError
from fedbus.privacy.patients import PrivacyError
from fedbus.privacy.plan import Plan
from fedbus.system.files import read_json, write_json

FILE = "privacy.json"

SECRET_BYTES = 32
"""Of a deployed site's secret. Without it, the noise would follow from the seed, which the hub knows."""


@dataclass
class Ledger:
    """The ledger of one site in one training.

    Attributes:
        path: Its file.
        plan: The plan that the first round was made for.
        secret: The site's secret, 32 bytes; empty in a simulation.
        releases: Digests of the results so far, in the order in which they were first made.
    """

    path: Path
    plan: dict[str, Any]
    secret: bytes = b""
    releases: list[str] = field(default_factory=list)

    @classmethod
    def open(cls, folder: Path, plan: Plan, *, deployed: bool) -> Self:
        """Open the ledger of a training; a new one is not written before the first round.

        Args:
            folder: Where the site records what it has released of this training.
            plan: The plan of this round.
            deployed: Whether the site is a hospital's; its noise then comes from a secret of its own.

        Raises:
            PrivacyError: If the training was planned differently in an earlier round.
            RunError: If the file is damaged.
        """
        path, now = folder / FILE, asdict(plan)
        if not path.is_file():
            return cls(path, now, secrets.token_bytes(SECRET_BYTES) if deployed else b"")
        content = read_json(path)
        try:
            ledger = cls(path, dict(content["plan"]), bytes.fromhex(content["secret"]), list(content["releases"]))
            if ledger.plan.keys() != now.keys() or (deployed and len(ledger.secret) != SECRET_BYTES):
                raise ValueError("its plan or its secret is incomplete")
        except (KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path} is damaged ({error}), so what was released is not known.",
                "Restore it, or start another training, with another seed.",
            ) from error
        changed = [
            f"{key} was {old} and is now {now.get(key)}" for key, old in ledger.plan.items() if old != now.get(key)
        ]
        if changed:
            raise PrivacyError(
                f"The training was planned with other numbers ({'; '.join(changed)}), so its epsilon would be unknown.",
                "Start another training, with another seed.",
            )
        return ledger

    def spend(self, digest: str) -> int:
        """Record a result before it is made, unless it was made before.

        Args:
            digest: See `release_digest`.

        Returns:
            How many different results there are now.

        Raises:
            PrivacyError: If the budget does not allow another one.
            RunError: If the file can't be written.
        """
        if digest not in self.releases:
            rounds = self.plan["rounds"]
            if len(self.releases) >= rounds:
                raise PrivacyError(
                    f"the budget of dp-epsilon is spent: {rounds} rounds were planned, as many different ones were "
                    "trained, and this would be another",
                    f"Start another training, with another seed; a simulation also after deleting {self.path.parent}.",
                )
            self.releases.append(digest)
            entries = {"plan": self.plan, "secret": self.secret.hex(), "releases": self.releases}
            write_json(self.path, entries)
        return len(self.releases)


def spent_epsilon(folder: Path, plan: Plan) -> float:
    """Return the epsilon that a site has spent in a training.

    Raises:
        PrivacyError, RunError: As `Ledger.open`.
    """
    return plan.epsilon(len(Ledger.open(folder, plan, deployed=False).releases))
