"""Which sites may take part: the operator of the hub approves a site's key, and revokes it again."""

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
    """Register a site's key with Flower and in the hub's folder, under the site's name.

    Raises:
        RunError: If the file is not a public key, its name or key is already approved, the key was revoked, or the
            hub does not answer.
    """
    with _lock_sites(hub):
        return _approve(hub, public_key)


def _approve(hub: HubFolder, public_key: Path) -> ApprovedSite:
    name, fingerprint, key = read_public_key(public_key)
    for site in hub.sites().values():
        if name == site.name or fingerprint == site.key:
            raise RunError(
                f"{site.name} is already approved (key {site.key}).",
                f"To change its key, first run: fedbus hub revoke {hub.path} {site.name}",
            )
    # Flower keeps the keys of removed sites and never registers one again.
    if fingerprint in hub.revoked():
        raise RunError(
            f"This key of {name} was revoked and can't be approved again ({fingerprint}).",
            "Ask the site to make a new key: fedbus site init in a new folder.",
        )
    hub.audit.record("approve", site=name, key=fingerprint)
    try:
        node = int(flwr_cli.register(hub, public_key, name).run()["node-id"])
    except RunError as error:
        hub.audit.note("approval failed", site=name, reason=error.problem)
        raise
    approved = ApprovedSite(name, node, fingerprint, datetime.now(UTC).isoformat(timespec="seconds"), key)
    hub.add_site(approved)
    return approved


def revoke_site(hub: HubFolder, name: str) -> None:
    """Remove a site's key from the hub; a connected site is disconnected.

    Raises:
        RunError: If no site of that name is approved, or Flower did not answer.
    """
    with _lock_sites(hub):
        node = hub.site(name).node
        hub.audit.note("revoke", site=name, key=hub.site(name).key)
        hub.remove_site(name)  # first, so that the gateway refuses the key even if Flower does not answer
    try:
        flwr_cli.unregister(hub, node).run()
    except RunError as error:
        raise RunError(
            f"{name} is revoked at the gateway, but Flower could not remove it ({error.problem}).",
            "Nothing else needs to be done: the gateway no longer accepts its key.",
        ) from error


def _lock_sites(hub: HubFolder) -> AbstractContextManager[None]:
    """Let one process at a time change the list of sites."""
    return hold(hub.path / ".sites", f"The sites of {hub.path} are being changed", "Try again when that has finished.")
