"""What a site's own counts give it in a federation, and the limits on that: its weight, and its share of every sum.

Weights in the average, shares of a batch, the class sums by which all sites balance, pooled BatchNorm statistics and
metrics over all rows follow from counts that each site states about itself. A site that claims a billion images would
own all of them. So each claim between hospitals is limited to a share, and a report to what its registration allows.
"""

from collections.abc import Mapping

from fedbus.errors import SettingsError
from fedbus.settings.schema import Settings
from fedbus.training.federation import FederationRows
from fedbus.transport.messages import Registration
from server.rounds.messaging import Participants


def most_weight(registration: Registration, settings: Settings, federation: FederationRows) -> float:
    """Return the largest weight that a site can have in the average, from its registration.

    Args:
        registration: The site's counts.
        settings: The settings.
        federation: The sums over all sites.
    """
    if settings.batches == "proportional" or settings.site_weights == "balanced":
        return float(max(_rows(registration, settings, federation), 1))
    return 1.0 if settings.site_weights == "equal" else float(sum(registration.splits["train"]))


def check_shares(participants: Participants, settings: Settings) -> None:
    """Check that no site of several claims more than `largest-share` of the images of a split, or of the rows.

    Raises:
        SettingsError: If one does; it is named.
    """
    registrations = {registration.site: registration for registration in participants.registrations.values()}
    if len(registrations) < 2:
        return
    for split, what in (("train", "training images"), ("validation", "validation images"), ("test", "test images")):
        counts = {site: sum(registration.splits[split]) for site, registration in registrations.items()}
        _check_claims(counts, what, settings.largest_share)
    federation = participants.federation(settings)  # after the images: absurd counts can not be balanced
    rows = {site: _rows(registration, settings, federation) for site, registration in registrations.items()}
    _check_claims(rows, "training rows after balancing", settings.largest_share)


def _check_claims(counts: Mapping[str, int], what: str, largest: float) -> None:
    total = sum(counts.values())
    for site, count in sorted(counts.items()):
        if count > largest * total:
            raise SettingsError(
                f"{site} claims {count} of all {total} {what} ({count / total:.0%}), more than "
                f"largest-share = {largest:g}, and would own the average.",
                f"Ask {site} for its number of images, for example by telephone. If it is right, use --set "
                f"largest-share={min(1.0, count / total + 0.01):.2f}; if not, revoke the site.",
            )


def describe_shares(participants: Participants, settings: Settings) -> str:
    """Describe in one line how many training images each site claims, and the limit."""
    counts = {name: sum(participants.registration(name).splits["train"]) for name in participants.names}
    total = max(1, sum(counts.values()))
    sites = ", ".join(f"{site} {count} ({count / total:.0%})" for site, count in counts.items())
    return f"training images: {sites}; at most {settings.largest_share:.0%} at one site (largest-share)"


def _rows(registration: Registration, settings: Settings, federation: FederationRows) -> int:
    """The rows that a site trains on: as it registered them, or by the sums over sites."""
    if settings.balance == "federation":
        return sum(federation.targets(registration.splits["train"]).values())
    return sum(registration.balanced)
