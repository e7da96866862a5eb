"""Ray listens on this machine alone and does nothing for a process without the run's token.

By default every port of Ray 2.55 listens on all interfaces and runs code for whoever connects. A Ray of our own gets
loopback and a fresh token. A cluster must have a token; without one it is not joined.
"""

import atexit
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import psutil

from fedbus.deployment.private_folder import need_private_file, read_bytes
from fedbus.errors import RunError

OWN_RAY = {
    "RAY_AUTH_MODE": "token",
    # Ray's switch for desktops. Off, a node takes 127.0.0.1 as its address, and every port follows that.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
OTHER_SECRETS = ("RAY_AUTH_TOKEN", "RAY_ENABLE_K8S_TOKEN_AUTH")
"""Ray would prefer these to the token's file."""

LOOPBACK = ("127.0.0.1", "::1")
PREFIX = "fbray-"
LONGEST_ROOT = 15
"""Characters. The path of a Unix socket has room for about 100, and Ray's session takes 65 of them."""

UNPROTECTED = "Every process that reaches it could run its own code beside the images."
HOW = "Set RAY_AUTH_MODE=token and the same token on every node and here; docs/security.md says how."


def protect_own_ray() -> None:
    """Make the Ray that this process will start safe; call it before Ray is imported.

    A private folder holds the token and all files of Ray, whose own folders anybody may write to. It is removed when
    the process ends. Children find it by its path, which is no secret.

    Raises:
        RunError: Ray would still listen on the network or work without a token.
    """
    folder = _private_folder()
    for name in OTHER_SECRETS:
        os.environ.pop(name, None)
    os.environ.update(OWN_RAY, RAY_AUTH_TOKEN_PATH=str(folder / "token"), RAY_TMPDIR=str(folder))
    from ray._private.services import get_node_ip_address

    if get_node_ip_address() not in LOOPBACK:  # type: ignore[no-untyped-call]
        raise RunError(
            "Ray would listen on the network.", "Start FedBUS in a process that has not imported Ray for itself."
        )
    refuse_open_ray()


def refuse_open_ray() -> None:
    """Refuse to work in a process whose Ray asks nobody for a token.

    Raises:
        RunError: it does not.
    """
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    if not is_token_auth_enabled():
        raise RunError(f"This Ray asks for no token. {UNPROTECTED}", HOW)


def protect_flower_simulation() -> None:
    """Do the same for `flwr run .`, whose process starts a Ray after it has imported the ClientApp.

    With RAY_ADDRESS Flower joins a cluster instead.

    Raises:
        RunError: as `protect_own_ray` and `require_token`.
    """
    if not sys.argv[0].removesuffix(".exe").endswith("flwr-simulation"):
        return
    address = os.environ.setdefault("RAY_ADDRESS", "local")
    if address == "local":
        protect_own_ray()
    else:
        require_token(address)


def require_token(address: str) -> None:
    """Make sure that a cluster works for nobody without a token, and that we have one; call it before Ray is imported.

    Args:
        address: HOST:PORT.

    Raises:
        RunError: a token or the cluster is missing, others can read the token, or the cluster works without.
    """
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    known = bool(os.environ.get("RAY_AUTH_TOKEN")) or (file.is_file() and bool(read_bytes(file).strip()))
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or not known:
        raise RunError(f"There is no token for the Ray cluster at {address}. {UNPROTECTED}", HOW)
    if not os.environ.get("RAY_AUTH_TOKEN"):
        need_private_file(file, HOW)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RunError(f"{address} is no address of a Ray cluster.", "Write HOST:PORT, as in 10.0.0.5:6379.")
    try:  # Ray itself would go on trying for minutes
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise RunError(
            f"No Ray cluster answers at {address} ({error}).", "Start one (ray start --head) or mend the address."
        ) from error
    if not _turns_strangers_away(address):
        raise RunError(f"The Ray cluster at {address} did not ask for a token. {UNPROTECTED}", HOW)


def _turns_strangers_away(address: str) -> bool:
    """Whether the cluster refuses a call that shows no token; one with TLS does not even take the call."""
    import grpc  # comes with Flower

    refusals = [grpc.StatusCode.UNAUTHENTICATED]
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        refusals.append(grpc.StatusCode.UNAVAILABLE)
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        try:
            channel.unary_unary("/ray.rpc.NodeInfoGcsService/CheckAlive")(b"", timeout=30)
        except grpc.RpcError as error:
            return error.code() in refusals
    return False


@lru_cache(maxsize=1)
def _private_folder() -> Path:
    """A new folder for this process, with a fresh token in it."""
    root = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if root.name.startswith(PREFIX):  # of the Ray whose worker started us
        root = root.parent
    if os.name == "posix" and len(str(root)) > LONGEST_ROOT:
        root = Path("/tmp")
    for old in root.glob(f"{PREFIX}*-*"):  # of runs that were killed
        owner = old.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=root))  # for this user alone
    atexit.register(_remove, folder, os.getpid())
    (folder / "token").touch(0o600)  # private before anything is in it
    (folder / "token").write_text(secrets.token_hex(32), encoding="ascii")
    return folder


def _remove(folder: Path, owner: int) -> None:
    """At exit, after Ray's own: it was imported later. Ray's last process may still write for a moment."""
    if os.getpid() != owner:  # a fork
        return
    (folder / "token").unlink(missing_ok=True)
    for _ in range(20):
        with suppress(OSError):
            shutil.rmtree(folder)
        if not folder.exists():
            return
        time.sleep(0.1)
