"""`flower-superlink` with a plain log: it writes identifiers that sites chose, and requests that strangers made."""

import ssl
from collections.abc import Callable
from functools import partial
from pathlib import Path

import uvicorn

from server.hub.live_certificate import follow_certificate


def main() -> None:
    """Run Flower's command with this process's arguments."""
    from fedbus.system.plain_log import keep_logs_plain
    from server.flower_internals import run_superlink

    keep_logs_plain("flwr", "uvicorn.error", "uvicorn.access")
    uvicorn.run = partial(uvicorn.run, ssl_context_factory=_make_context)
    run_superlink()


def _make_context(config: uvicorn.Config, make: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """Make the TLS context of the SuperLink, which Flower starts by `uvicorn.run`, such that it can be renewed."""
    context = make()
    follow_certificate(context, Path(str(config.ssl_certfile)), Path(str(config.ssl_keyfile)))
    return context


if __name__ == "__main__":
    main()
