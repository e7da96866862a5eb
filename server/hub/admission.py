"""Who may take part: a site's key is let in by the operator of the hub, and shut out again."""

from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path

from fedbus.errors import RunError
from fedbus.system.locks import hold
from server.hub import flwr_cli
from server.hub.approved_sites import ApprovedSite
from server.hub.folder import HubFolder
from server.hub.site_keys import read_public_key


def approve_site(hub: HubFolder, public_key: Path) -> ApprovedSite:
    """Register a site's key with Flower under the site's name.

    Raises:
        RunError: the file is no public key, the name or key is approved already or revoked, or the hub does not
            answer.
    """
    with _alone(hub):
        return _approve(hub, public_key)


def _approve(hub: HubFolder, public_key: Path) -> ApprovedSite:
    name, fingerprint = read_public_key(public_key)
    for site in hub.sites().values():
        if name == site.name or fingerprint == site.key:
            raise RunError(
                f"{site.name} is approved already (key {site.key}).",
                f"To change its key, first run: fedbus hub revoke {hub.path} {site.name}",
            )
    if fingerprint in hub.revoked():
        raise RunError(
            f"This key of {name} was revoked, and a revoked key can't come back ({fingerprint}).",
            "Have the site make a new one: fedbus site init in a new folder.",
        )
    node = int(flwr_cli.register(hub, public_key, name).run()["node-id"])
    approved = ApprovedSite(name, node, fingerprint, datetime.now(UTC).isoformat(timespec="seconds"))
    hub.add_site(approved)
    return approved


def revoke_site(hub: HubFolder, name: str) -> None:
    """Take a site's key out of Flower's hands; a site that is connected is cut off.

    Raises:
        RunError: no such site is approved, or the hub does not answer.
    """
    with _alone(hub):
        node = find_site(hub, name).node
        hub.remove_site(name)  # first: the gate shuts at once, whatever Flower answers
    try:
        flwr_cli.unregister(hub, node).run()
    except RunError as error:
        raise RunError(
            f"{name} is shut out at the gate; Flower itself could not be told ({error.problem}).",
            "Nothing more needs to be done: its key is not let in again.",
        ) from error


def _alone(hub: HubFolder) -> AbstractContextManager[None]:
    """One change of the list of sites at a time."""
    return hold(hub.path / ".sites", f"The sites of {hub.path} are being changed", "Try again when that is done.")


def find_site(hub: HubFolder, name: str) -> ApprovedSite:
    """Look an approved site up.

    Raises:
        RunError: there is none of that name.
    """
    sites = hub.sites()
    if name not in sites:
        raise RunError(f"No site called {name} is approved.", f"Name one of: {', '.join(sites) or 'none yet'}.")
    return sites[name]
