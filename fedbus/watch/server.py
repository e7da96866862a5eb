"""`fedbus watch`: serves the page of one run to this machine until Ctrl-C.

Only 127.0.0.1 is bound. The address contains a secret, because every user of the machine can reach 127.0.0.1, but only
the owner can enter a run folder. Requests with another host name are refused: a web site could otherwise let its own
name point to 127.0.0.1 and read the page (DNS rebinding).
"""

import base64
import hashlib
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fedbus.errors import RunError
from fedbus.system.signals import stops_on_signals

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

    from fedbus.watch.snapshot import RunReader

HOST = "127.0.0.1"

POLL_SECONDS = 0.2

KEEP_SECONDS = 0.5
"""How long a rendered page is used again, so that many open tabs cost no more than one."""


def watch(run: Path, port: int, make_reader: "Callable[[], RunReader]", print_line: Callable[[str], object]) -> None:
    """Serve the page of a run until Ctrl-C.

    Args:
        run: The run folder; it need not exist yet.
        port: Port to listen on; 0: a free one.
        make_reader: Opens the run; called after the address was printed, since it imports much.
        print_line: Prints the address and what to do next.

    Raises:
        RunError: If the folder is no run, or the port can't be used.
    """
    check_watchable(run)
    key, stop = secrets.token_urlsafe(16), threading.Event()
    with _listen(port) as listener, stops_on_signals(stop):
        number = listener.getsockname()[1]
        print_line(f"Page of {run.name}: http://{HOST}:{number}/{key}/")
        if not run.exists():
            print_line(f"{run} does not exist yet: the page fills when a run starts there.")
        print_line("Open this address in a browser on this machine. Ctrl-C ends the page, not the run.")
        print_line(f"From another machine, first run there: ssh -N -L {number}:{HOST}:{number} THIS-MACHINE")
        server = make_server(make_app(run.resolve().name, make_reader(), key))
        # Not in the main thread, where uvicorn would install its own signal handlers.
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            while not stop.wait(POLL_SECONDS) and thread.is_alive():
                pass
        finally:
            server.should_exit = True
            thread.join()
    print_line("The page has ended.")


def check_watchable(run: Path) -> None:
    """Check that a folder is a run, or can become one.

    Raises:
        RunError: If it is a file, the folder of a study or a hub, or a folder with other content.
    """
    from fedbus.runs.folder import is_run
    from fedbus.runs.lock import is_unused

    if run.is_file():
        raise RunError(f"{run} is a file, not a run folder.", "Name the folder of the run.")
    if is_run(run) or is_unused(run):
        return
    inside = sorted(path for path in run.glob("*/*") if is_run(path)) or [run / "runs" / "NAME"]
    raise RunError(f"{run} is not the folder of one run.", f"Name one, for example: fedbus watch {inside[0]}")


def make_app(name: str, reader: "RunReader", key: str) -> "Starlette":
    """Build the application: the page and the part of it that changes, below the secret; everything else is 404."""
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware
    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    from fedbus.watch.page import Page

    page, lock = Page(name), threading.Lock()
    kept: dict[bool, tuple[float, str]] = {}

    def answer(request: "Request", whole: bool) -> "Response":
        if not secrets.compare_digest(request.path_params["key"].encode(), key.encode()):
            raise HTTPException(404)
        with lock:  # drawing changes matplotlib's global settings
            if whole not in kept or time.monotonic() - kept[whole][0] > KEEP_SECONDS:
                snapshot = reader.read()
                kept[whole] = time.monotonic(), page.page(snapshot) if whole else page.live(snapshot)
            return HTMLResponse(kept[whole][1])

    routes = [
        Route("/{key}/", lambda request: answer(request, True), methods=["GET"]),
        Route("/{key}/live", lambda request: answer(request, False), methods=["GET"]),
    ]
    for route in routes:
        route.methods = {"GET"}  # Starlette adds HEAD
    app = Starlette(routes=routes, middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])])
    app.router.redirect_slashes = False
    return app


def make_server(app: "Starlette") -> "uvicorn.Server":
    """Make the web server; every answer has the headers of `security_headers`."""
    import uvicorn

    return uvicorn.Server(
        uvicorn.Config(
            app, ws="none", loop="asyncio", log_level="error", access_log=False, server_header=False,
            proxy_headers=False, headers=security_headers(), timeout_graceful_shutdown=1, lifespan="off",
        )
    )  # fmt: skip


def security_headers() -> list[tuple[str, str]]:
    """Return the headers of every answer: nothing is loaded from elsewhere, only the page's own script runs."""
    from fedbus.watch.page import script

    digest = base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()
    policy = (
        f"default-src 'none'; script-src 'sha256-{digest}'; style-src 'unsafe-inline'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return [
        ("Content-Security-Policy", policy), ("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"),
        ("Referrer-Policy", "no-referrer"), ("Cross-Origin-Resource-Policy", "same-origin"),
    ]  # fmt: skip


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or error
        raise RunError(f"{HOST}:{port} can't be used ({why}).", "Choose another --port, or leave it out.") from error
