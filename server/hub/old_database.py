"""state.db: versions up to 0.2 kept Flower's state on disk; the hub needs no more of it than keys, and those once."""

import sqlite3
from contextlib import closing
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.errors import RunError
from server.hub.approved_sites import APPROVED_SITES, write_approved_sites
from server.hub.folder import HubFolder


def copy_public_keys(hub: HubFolder) -> None:
    """Write the keys of sites that version 0.1 approved into the list of approved sites: it kept only fingerprints.

    Raises:
        RunError: If a key is not known, or a file can't be read or written.
    """
    sites = hub.sites().values()
    if all(site.public_key for site in sites):
        return
    keys = _registered_keys(hub)
    complete = [replace(site, public_key=site.public_key or keys.get(site.key, "")) for site in sites]
    missing = [site.name for site in complete if not site.public_key]
    if missing:
        raise RunError(
            f"{hub.path / APPROVED_SITES} has no public key of {', '.join(missing)}, and neither has {hub.database}.",
            f"Restore {hub.database.name} from a backup, or revoke the site (fedbus hub revoke {hub.path} "
            f"{missing[0]}) and approve a new key of it.",
        )
    write_approved_sites(hub.path, complete)


def unused_database_note(hub: HubFolder) -> str:
    """Return what to say of a database that an earlier version left; empty if there is none."""
    if not hub.database.is_file():
        return ""
    return (
        f"{hub.database} is of an earlier version and no longer used. It may contain models of sites: delete it and "
        f"{hub.database.name}-*, unless you want to go back to that version."
    )


def _registered_keys(hub: HubFolder) -> dict[str, str]:
    """Return the keys that Flower had registered, by fingerprint."""
    if not hub.database.is_file():
        return {}
    try:
        with closing(sqlite3.connect(f"{hub.database.as_uri()}?mode=ro", uri=True)) as database:
            rows = database.execute("SELECT public_key FROM node WHERE public_key IS NOT NULL").fetchall()
    except sqlite3.Error as error:
        raise RunError(f"{hub.database} can't be read ({error}).", "Restore it from a backup.") from error
    keys = [load_pem_public_key(bytes(content)) for (content,) in rows]
    return {
        fingerprint_of(key): public_line(key, "").strip() for key in keys if isinstance(key, ec.EllipticCurvePublicKey)
    }
