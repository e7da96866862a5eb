"""Flower's SuperLink as the hub runs it: on this machine only, with TLS, node keys and its database on disk."""

import shlex
import ssl
import subprocess
import time
from collections.abc import Callable

import httpx

from fedbus.errors import RunError
from fedbus.system.processes import end_child, last_words, start_child
from server.hub.folder import HubFolder

HOST = "127.0.0.1"
START_SECONDS = 90.0


def superlink_command(hub: HubFolder) -> list[str]:
    """Flower's command, as an operator could type it."""
    return [
        "flower-superlink", "--host", HOST, "--port", str(hub.settings.superlink_port),
        "--ssl-ca-certfile", str(hub.ca_certificate), "--ssl-certfile", str(hub.certificate),
        "--ssl-keyfile", str(hub.key), "--enable-supernode-auth", "--database", str(hub.database),
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip


def flower_settings(hub: HubFolder) -> dict[str, str]:
    """Environment of Flower's programs at the hub."""
    return {"FLWR_HOME": str(hub.flower)}


def typed_command(hub: HubFolder) -> str:
    """The command for a shell, with the environment that it needs."""
    settings = " ".join(f"{key}={shlex.quote(value)}" for key, value in flower_settings(hub).items())
    return f"{settings} {shlex.join(superlink_command(hub))}"


def start_superlink(hub: HubFolder) -> subprocess.Popen[bytes]:
    """Start the SuperLink and wait until it answers.

    Raises:
        RunError: its port is taken, or it ended or did not answer; its last words are said.
    """
    if is_up(hub):
        raise RunError(
            f"Something answers at {HOST}:{hub.settings.superlink_port} already.",
            "Is this hub running? Else set another superlink-port in hub.toml and flower/config.toml.",
        )
    child = start_child(superlink_command(hub), hub.log, flower_settings(hub))
    try:
        _wait_until(lambda: is_up(hub), child, hub)
    except BaseException:
        end_child(child)
        raise
    return child


def is_up(hub: HubFolder) -> bool:
    """Whether a SuperLink answers with this hub's certificate."""
    context = ssl.create_default_context(cafile=str(hub.ca_certificate))
    try:
        httpx.get(f"https://{HOST}:{hub.settings.superlink_port}/", verify=context, timeout=5)
    except httpx.TimeoutException:
        return True  # it takes calls, and is busy with one
    except httpx.TransportError:
        return False
    return True


def _wait_until(ready: Callable[[], bool], child: subprocess.Popen[bytes], hub: HubFolder) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not ready():
        if child.poll() is not None:
            raise RunError(
                f"Flower's SuperLink ended at once: {last_words(hub.log)}.", f"The whole story is in {hub.log}."
            )
        if time.monotonic() > deadline:
            raise RunError(
                f"Flower's SuperLink does not answer after {START_SECONDS:.0f} s: {last_words(hub.log)}.",
                f"The whole story is in {hub.log}.",
            )
        time.sleep(0.2)
