"""Flower's SuperLink as the hub runs it: only on this machine, with TLS and node keys, its state in memory."""

import shlex
import ssl
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import httpx

from fedbus.errors import RunError
from fedbus.system.processes import end_child, log_tail, start_child
from server.flower_internals import FLWR_INTERNAL_GRPC_CONTROL_API, FLWR_INTERNAL_GRPC_FLEET_API
from server.hub.folder import HubFolder

HOST = "127.0.0.1"
START_SECONDS = 90.0

NO_GRPC = {FLWR_INTERNAL_GRPC_CONTROL_API: "0", FLWR_INTERNAL_GRPC_FLEET_API: "0"}
"""Whatever the operator's own variables: Flower's gRPC ports would be open on all interfaces."""


def superlink_command(hub: HubFolder, secret_file: Path) -> list[str]:
    """Flower's command and its arguments.

    Args:
        hub: The hub's folder.
        secret_file: A file of 32 random bytes, with which the executor of runs identifies itself.
    """
    return [
        "flower-superlink", "--host", HOST, "--port", str(hub.settings.superlink_port),
        "--ssl-ca-certfile", str(hub.ca_certificate), "--ssl-certfile", str(hub.certificate),
        "--ssl-keyfile", str(hub.key), "--enable-supernode-auth",
        "--disable-runtime-dependency-installation", "--isolation", "process",
        "--superexec-auth-secret-file", str(secret_file),
    ]  # fmt: skip


def flower_environment(hub: HubFolder) -> dict[str, str]:
    """Environment variables of Flower's programs at the hub."""
    return {"FLWR_HOME": str(hub.flower)}


def shell_command(hub: HubFolder, command: Sequence[str]) -> str:
    """A command of Flower's for a shell, with the environment that it needs."""
    variables = " ".join(f"{key}={shlex.quote(value)}" for key, value in flower_environment(hub).items())
    return f"{variables} {shlex.join(command)}"


def start_superlink(hub: HubFolder, secret_file: Path, gateway: int) -> subprocess.Popen[bytes]:
    """Start the SuperLink with the hub's approved sites, and wait until it answers.

    Args:
        hub: The hub's folder.
        secret_file: As in `superlink_command`.
        gateway: File descriptor to which it writes the nodes that have a new instruction.

    Raises:
        RunError: If its port is in use, or it ended or did not answer in time; the message quotes its log.
    """
    if is_up(hub):
        raise RunError(
            f"Another program already answers at {HOST}:{hub.settings.superlink_port}.",
            "If this hub is not already running, set another superlink-port in hub.toml.",
        )
    options = superlink_command(hub, secret_file)[1:]
    command = [sys.executable, "-m", "server.hub.superlink_process", str(hub.path), str(gateway), *options]
    child = start_child(command, hub.log, flower_environment(hub) | NO_GRPC, (gateway,))
    try:
        _wait_until_up(hub, child)
    except BaseException:
        end_child(child)
        raise
    return child


def is_up(hub: HubFolder) -> bool:
    """Whether a SuperLink answers with this hub's certificate."""
    context = ssl.create_default_context(cafile=str(hub.ca_certificate))
    try:
        httpx.get(f"https://{HOST}:{hub.settings.superlink_port}/", verify=context, timeout=5, trust_env=False)
    except httpx.TimeoutException:
        return True  # it accepts connections and is busy
    except httpx.TransportError:
        return False
    return True


def _wait_until_up(hub: HubFolder, child: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not is_up(hub):
        ended = child.poll() is not None
        if ended or time.monotonic() > deadline:
            problem = "ended during its start" if ended else f"does not answer after {START_SECONDS:.0f} s"
            raise RunError(f"Flower's SuperLink {problem}: {log_tail(hub.log)}.", f"For details, see {hub.log}.")
        time.sleep(0.2)
