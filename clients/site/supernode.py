"""Flower's SuperNode as a site runs it: one connection to the hub, and a worker that only this site can be."""

import os
import shlex
import sys
from pathlib import Path

from clients.site.folder import SiteFolder

HOST = "127.0.0.1"


def supernode_options(site: SiteFolder, secret_file: Path) -> list[str]:
    """What Flower's command is given.

    Args:
        site: the site's folder.
        secret_file: 32 random bytes that the worker must know.
    """
    return [
        "--superlink", site.settings.hub, "--root-certificates", str(site.ca_certificate),
        "--auth-supernode-private-key", str(site.key), "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_file), "--host", HOST, "--port", str(site.settings.runtime_port),
        "--node-config", f"site='{site.settings.name}'",
    ]  # fmt: skip


def supernode_command(site: SiteFolder, secret_file: Path) -> list[str]:
    """A command that runs Flower's own, and ends when that does (see `main`)."""
    return [sys.executable, "-m", "clients.site.supernode", *supernode_options(site, secret_file)]


def typed_command(site: SiteFolder) -> str:
    """Flower's command for a shell; the secret is a new one each time that `fedbus site join` runs."""
    return shlex.join(["flower-supernode", *supernode_options(site, Path("SECRET-FILE"))])


def main() -> None:
    """Run `flower-supernode` with this process's arguments, and end the process when its connection ends.

    Flower takes a handshake that breaks off, as when a line is cut, for a lasting error: it gives the connection up,
    and the process lives on without one, for the sake of the server for its workers.
    """
    from clients.flower_internals import run_supernode

    run_supernode()
    sys.stdout.flush()
    os._exit(1)  # an ordinary exit would wait for that server


if __name__ == "__main__":
    main()
