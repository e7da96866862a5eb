"""The names and public keys of a hub's sites, which every site of a run is sent."""

from fedbus.deployment.roster import fingerprints, roster_line
from fedbus.errors import RunError
from server.hub.approved_sites import APPROVED_SITES
from server.hub.folder import HubFolder


def roster_of(hub: HubFolder) -> tuple[str, ...]:
    """Return the approved sites as `fedbus.deployment.roster` writes them, sorted by name.

    Raises:
        RunError: If a key is not known, or does not have the fingerprint that was approved.
    """
    sites = hub.sites().values()
    lines = tuple(roster_line(site.name, site.public_key) for site in sites)
    try:
        found = fingerprints(lines)
    except ValueError as error:
        raise RunError(
            f"The list of approved sites of {hub.path} can't be sent: {error}.",
            "Revoke the site whose key is damaged or missing, and approve a new key of it.",
        ) from error
    other = [site.name for site in sites if found[site.name] != site.key]
    if other:
        raise RunError(
            f"{', '.join(other)}: the key in {APPROVED_SITES} does not have the fingerprint that was approved.",
            "Restore the file from a backup.",
        )
    return lines
