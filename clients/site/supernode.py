"""Flower's SuperNode as a site runs it: one connection to the hub, and a worker that only this site can start."""

import os
import shlex
import sys
from pathlib import Path

from clients.site.folder import SiteFolder

HOST = "127.0.0.1"


def supernode_options(site: SiteFolder, secret_file: Path) -> list[str]:
    """Options of Flower's command.

    Args:
        site: The site's folder.
        secret_file: A file of 32 random bytes, with which the worker identifies itself.
    """
    return [
        "--superlink", site.settings.hub, "--root-certificates", str(site.ca_certificate),
        "--auth-supernode-private-key", str(site.key), "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_file), "--host", HOST, "--port", str(site.settings.runtime_port),
        "--node-config", f"site='{site.settings.name}'",
    ]  # fmt: skip


def supernode_command(site: SiteFolder, secret_file: Path) -> list[str]:
    """The command that runs Flower's and ends when its connection ends (see `main`)."""
    return [sys.executable, "-m", "clients.site.supernode", *supernode_options(site, secret_file)]


def shell_command(site: SiteFolder) -> str:
    """Flower's command for a shell; `fedbus site join` makes a new secret file each time."""
    return shlex.join(["flower-supernode", *supernode_options(site, Path("SECRET-FILE"))])


def main() -> None:
    """Run `flower-supernode` with this process's arguments, and end the process when its connection ends.

    Flower takes an interrupted handshake, as when a line is cut, for a permanent error and gives the connection up,
    but the process stays alive without one, because of its server for workers.
    """
    from clients.flower_internals import run_supernode
    from clients.site.pauses import Pauses
    from fedbus.system.plain_log import keep_logs_plain

    keep_logs_plain("flwr")  # the hub chooses names of messages and rounds
    run_supernode(Pauses())
    sys.stdout.flush()
    os._exit(1)  # an ordinary exit would wait for that server


if __name__ == "__main__":
    main()
