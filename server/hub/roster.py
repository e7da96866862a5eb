"""The names and public keys of a hub's sites, which every site of a run is sent."""

import sqlite3
from contextlib import closing

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fedbus.deployment.keys import fingerprint_of, public_line
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
    keys = _registered_keys(hub) if any(not site.public_key for site in sites) else {}
    lines = tuple(roster_line(site.name, site.public_key or keys.get(site.key, "")) for site in sites)
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


def _registered_keys(hub: HubFolder) -> dict[str, str]:
    """Return the keys that Flower has registered, by fingerprint: version 0.1 kept only fingerprints itself."""
    if not hub.database.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{hub.database.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT public_key FROM node WHERE public_key IS NOT NULL").fetchall()
    except sqlite3.Error as error:
        raise RunError(f"{hub.database} can't be read ({error}).", "Restore it from a backup.") from error
    keys = [load_pem_public_key(bytes(content)) for (content,) in rows]
    return {fingerprint_of(key): public_line(key, "") for key in keys if isinstance(key, ec.EllipticCurvePublicKey)}
