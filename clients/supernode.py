"""Flower's SuperNode as a site runs it: one connection to the hub, and a worker that only this site can be."""

import shlex
from pathlib import Path

from clients.folder import SiteFolder

HOST = "127.0.0.1"


def supernode_command(site: SiteFolder, secret_file: Path) -> list[str]:
    """Flower's command.

    Args:
        site: the site's folder.
        secret_file: 32 random bytes that the worker must know.
    """
    return [
        "flower-supernode", "--superlink", site.settings.hub, "--root-certificates", str(site.ca_certificate),
        "--auth-supernode-private-key", str(site.key), "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_file), "--host", HOST, "--port", str(site.settings.runtime_port),
        "--node-config", f"site='{site.settings.name}'",
    ]  # fmt: skip


def typed_command(site: SiteFolder) -> str:
    """The command for a shell; the secret is a new one each time that `fedbus site join` runs."""
    return shlex.join(supernode_command(site, Path("SECRET-FILE")))
