"""Make Ray listen only on this machine, and only work for processes that have the run's token.

By default, every port of Ray 2.55 listens on all interfaces and runs code for everyone who connects. A Ray that FedBUS
starts gets the loopback address and a new token. A cluster is joined only if it requires a token.
"""

import atexit
import os
import secrets
import socket
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

from fedbus.deployment.private_folder import need_private_file, read_bytes
from fedbus.errors import RunError
from fedbus.system.scratch import RAY_PREFIX, delete_scratch_folder, new_scratch_folder

OWN_RAY = {
    "RAY_AUTH_MODE": "token",
    # Ray's switch for clusters on desktop systems. Without it, a node and all its ports use the address 127.0.0.1.
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
}
OTHER_SECRETS = ("RAY_AUTH_TOKEN", "RAY_ENABLE_K8S_TOKEN_AUTH")
"""Ray prefers these to the token file."""

LOOPBACK = ("127.0.0.1", "::1")
LONGEST_ROOT = 15
"""In characters. The path of a Unix socket has about 100, and Ray uses 65 of them."""

UNPROTECTED = "Every process that can connect to it could run code with access to the images."
HOW = "Set RAY_AUTH_MODE=token and the same token on every node and here, as docs/security.md describes."


def protect_own_ray() -> None:
    """Protect the Ray that this process will start; call it before Ray is imported.

    A private folder contains the token and all files of Ray, because every user can write to Ray's default folder. It
    is deleted when the process ends. Child processes find it by its path, which is not secret.

    Raises:
        RunError: If Ray would still listen on the network or work without a token.
    """
    folder = _private_folder()
    for name in OTHER_SECRETS:
        os.environ.pop(name, None)
    os.environ.update(OWN_RAY, RAY_AUTH_TOKEN_PATH=str(folder / "token"), RAY_TMPDIR=str(folder))
    from ray._private.services import get_node_ip_address

    if get_node_ip_address() not in LOOPBACK:  # type: ignore[no-untyped-call]
        raise RunError(
            "Ray would listen on the network.", "Start FedBUS in a process that has not imported Ray before."
        )
    refuse_open_ray()


def refuse_open_ray() -> None:
    """Refuse to work in a process whose Ray requires no token.

    Raises:
        RunError: If it requires none.
    """
    from ray._private.authentication.authentication_utils import is_token_auth_enabled

    if not is_token_auth_enabled():
        raise RunError(f"This Ray requires no token. {UNPROTECTED}", HOW)


def protect_flower_simulation() -> None:
    """Protect the Ray of `flwr run .`, whose process starts Ray after it has imported the ClientApp.

    With RAY_ADDRESS, Flower joins a cluster instead.

    Raises:
        RunError: As `protect_own_ray` and `require_token`.
    """
    if not sys.argv[0].removesuffix(".exe").endswith("flwr-simulation"):
        return
    address = os.environ.setdefault("RAY_ADDRESS", "local")
    if address == "local":
        protect_own_ray()
    else:
        require_token(address)


def require_token(address: str) -> None:
    """Check that a cluster requires a token and that this process has one; call it before Ray is imported.

    Args:
        address: HOST:PORT.

    Raises:
        RunError: If there is no token or cluster, others can read the token, or the cluster works without one.
    """
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    known = bool(os.environ.get("RAY_AUTH_TOKEN")) or (file.is_file() and bool(read_bytes(file).strip()))
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or not known:
        raise RunError(f"There is no token for the Ray cluster at {address}. {UNPROTECTED}", HOW)
    if not os.environ.get("RAY_AUTH_TOKEN"):
        need_private_file(file, HOW)
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise RunError(f"{address} is not the address of a Ray cluster.", "Write HOST:PORT, for example 10.0.0.5:6379.")
    try:  # Ray itself would retry for minutes
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise RunError(
            f"No Ray cluster answers at {address} ({error}).", "Start one (ray start --head) or correct the address."
        ) from error
    if not _refuses_without_token(address):
        raise RunError(f"The Ray cluster at {address} requires no token. {UNPROTECTED}", HOW)


def _refuses_without_token(address: str) -> bool:
    """Return whether the cluster refuses a call without a token; one with TLS does not even accept the connection."""
    import grpc  # a dependency of Flower

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
    """Create a folder for this process, with a new token in it."""
    root = Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
    if root.name.startswith(RAY_PREFIX):  # inherited from the Ray whose worker started this process
        root = root.parent
    if os.name == "posix" and len(str(root)) > LONGEST_ROOT:
        root = Path("/tmp")
    folder = new_scratch_folder(root, RAY_PREFIX)
    atexit.register(_remove, folder, os.getpid())
    (folder / "token").touch(0o600)  # made private before the token is written
    (folder / "token").write_text(secrets.token_hex(32), encoding="ascii")
    return folder


def _remove(folder: Path, owner: int) -> None:
    """Delete the folder at exit. Ray's exit handlers have run by then, but its last process may still be writing."""
    if os.getpid() != owner:  # a forked process, which does not own the folder
        return
    (folder / "token").unlink(missing_ok=True)
    delete_scratch_folder(folder)
