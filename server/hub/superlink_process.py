"""`flower-superlink` with the hub's state and a plain log: it writes identifiers that sites and strangers chose."""

import ssl
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from fedbus.system.plain_log import keep_logs_plain
from server.flower_internals import public_key_to_bytes, run_superlink
from server.hub.approved_sites import read_approved_sites
from server.hub.link_state import HubLinkState, RegisteredKey
from server.hub.live_certificate import follow_certificate


def main() -> None:
    """Run Flower's command with this process's arguments, after two of our own: hub folder and pipe to the gateway."""
    hub, gateway = Path(sys.argv.pop(1)), int(sys.argv.pop(1))
    keep_logs_plain("flwr", "uvicorn.error", "uvicorn.access")
    uvicorn.run = partial(uvicorn.run, ssl_context_factory=_make_context)
    run_superlink(partial(HubLinkState, keys=registered_keys(hub), gateway=gateway))


def registered_keys(hub: Path) -> list[RegisteredKey]:
    """Return the keys of a hub's approved sites as Flower registers them."""
    found = []
    for site in read_approved_sites(hub).values():
        key = load_ssh_public_key(site.public_key.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)  # checked when it was approved
        found.append(RegisteredKey(site.node, site.name, public_key_to_bytes(key)))
    return found


def _make_context(config: uvicorn.Config, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Make the TLS context of the SuperLink, which Flower starts by `uvicorn.run`, such that it can be renewed."""
    context = make()
    follow_certificate(context, Path(str(config.ssl_certfile)), Path(str(config.ssl_keyfile)))
    return context


if __name__ == "__main__":
    main()
