"""Which sites may take part: the operator of the hub approves a site's key, and revokes it again."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from fedbus.errors import RunError
from server.hub import flwr_cli
from server.hub.approved_sites import APPROVED_SITES, LARGEST_NODE, SMALLEST_NODE, ApprovedSite, lock_sites
from server.hub.folder import HubFolder
from server.hub.old_database import copy_public_keys
from server.hub.roster import roster_of
from server.hub.site_keys import read_public_key
from server.hub.superlink import is_up


def approve_site(hub: HubFolder, public_key: Path) -> ApprovedSite:
    """Register a site's key in the hub's folder and, if the hub is running, with Flower, under the site's name.

    Raises:
        RunError: If the file is not a public key, its name or key is already approved, the key was revoked, or Flower
            reports an error.
    """
    with lock_sites(hub.path):
        return _approve(hub, public_key)


def _approve(hub: HubFolder, public_key: Path) -> ApprovedSite:
    name, fingerprint, key = read_public_key(public_key)
    for site in hub.sites().values():
        if name == site.name or fingerprint == site.key:
            raise RunError(
                f"{site.name} is already approved (key {site.key}).",
                f"To change its key, first run: fedbus hub revoke {hub.path} {site.name}",
            )
    # This list is the only one that lasts: Flower's own ends with the hub.
    if fingerprint in hub.revoked():
        raise RunError(
            f"This key of {name} was revoked and can't be approved again ({fingerprint}).",
            "Ask the site to make a new key: fedbus site init in a new folder.",
        )
    hub.audit.record("approve", site=name, key=fingerprint)
    try:
        node = _register(hub, public_key, name)
    except RunError as error:
        hub.audit.note("approval failed", site=name, reason=error.problem)
        raise
    approved = ApprovedSite(name, node, fingerprint, datetime.now(UTC).isoformat(timespec="seconds"), key)
    hub.add_site(approved)
    return approved


def _register(hub: HubFolder, public_key: Path, name: str) -> int:
    """Register a key and return its node's number; a hub that is not running does so when it starts."""
    if is_up(hub):
        return int(flwr_cli.register(hub, public_key, name).run()["node-id"])
    return SMALLEST_NODE + secrets.randbelow(LARGEST_NODE - SMALLEST_NODE + 1)


def revoke_site(hub: HubFolder, name: str) -> None:
    """Remove a site's key from the hub; a connected site is disconnected.

    Raises:
        RunError: If no site of that name is approved, or Flower did not answer.
    """
    with lock_sites(hub.path):
        node = hub.site(name).node
        hub.audit.note("revoke", site=name, key=hub.site(name).key)
        hub.remove_site(name)  # first, so that the gateway refuses the key even if Flower does not answer
    if not is_up(hub):
        return  # it will start without this key
    try:
        flwr_cli.unregister(hub, node).run()
    except RunError as error:
        raise RunError(
            f"{name} is revoked at the gateway, but Flower could not remove it ({error.problem}).",
            "Nothing else needs to be done: the gateway no longer accepts its key.",
        ) from error


def check_approved_sites(hub: HubFolder) -> None:
    """Check the approved sites before a hub starts with them, and complete those that version 0.1 approved.

    Raises:
        RunError: If a key is missing, damaged, not the one that was approved or revoked, or a file can't be read.
    """
    copy_public_keys(hub)
    roster_of(hub)
    # A list that was restored from a backup would approve a key again that was revoked since then.
    revoked = set(hub.revoked())
    for site in hub.sites().values():
        if site.key in revoked:
            raise RunError(
                f"{hub.path / APPROVED_SITES} contains the key of {site.name}, which was revoked ({site.key}).",
                f"Remove it: fedbus hub revoke {hub.path} {site.name}",
            )
