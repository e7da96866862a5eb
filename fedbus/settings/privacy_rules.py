"""Which settings exclude each other because of what the hub must not see."""

from collections.abc import Sequence

from fedbus.errors import SettingsError
from fedbus.settings.arms import ROBUST

SECURE = "secure-aggregation"

LEAST_SITES = 3
"""The sum of two sites shows each of them the other's update, and the hub the mean of two."""


def check_secure_aggregation(privacy: str, arms: Sequence[str], head: str, quorum: int) -> None:
    """Check, under secure aggregation, that all that the settings need can be computed from sums over the sites.

    Args:
        privacy: The setting `privacy`.
        arms: The federated arms.
        head: The setting `head`.
        quorum: The setting `quorum`.

    Raises:
        ValueError: If it can't.
    """
    if privacy != SECURE:
        return
    robust = [arm for arm in arms if arm in ROBUST]
    if robust:
        raise ValueError(
            f"privacy={SECURE} can't be combined with {', '.join(robust)}: robust strategies compare single updates, "
            f"and the hub sees only their sum. Use fedavg, fedprox or a server optimiser, or privacy=none"
        )
    if "qfedavg" in arms:
        raise ValueError(
            f"privacy={SECURE} can't be combined with qfedavg, which weighs each site by its training loss; the hub "
            "sees only the sum. Use fedavg or fedprox, or privacy=none"
        )
    if head == "by-class":
        raise ValueError(
            f"privacy={SECURE} can't be combined with head=by-class, which averages each class over the sites that "
            "have it: a class of one site would show its update. Use head=average, or privacy=none"
        )
    if 0 < quorum < LEAST_SITES:
        raise ValueError(
            f"privacy={SECURE} needs a quorum of at least {LEAST_SITES} sites, not {quorum}: a sum over fewer "
            f"shows a site the update of another. Use quorum={LEAST_SITES}, or 0 for all sites"
        )


def check_secure_sites(privacy: str, sites: int) -> None:
    """Check that a federation has enough sites for its privacy, before anything is trained.

    Args:
        privacy: The setting `privacy`.
        sites: The number of sites that can take part.

    Raises:
        SettingsError: If it has not.
    """
    if privacy == SECURE and sites < LEAST_SITES:
        raise SettingsError(
            f"privacy={SECURE} needs at least {LEAST_SITES} sites, here are {sites}: from a sum of two, each site "
            "computes the other's update.",
            "Add sites, or use --set privacy=none.",
        )
