"""Settings of third-party libraries: quiet, private, and without their known faults."""

import logging
import os
import warnings
from typing import Any

SETTINGS = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",  # otherwise `flwr run` would train in another environment
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_ENABLE_AUTO_CONNECT": "0",  # otherwise a thread that calls Ray after Ctrl-C waits for ever for a new Ray
    "RAY_worker_niceness": "0",  # federated arms get the same share of the processor as the others
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
"""Environment variables, inherited by child processes."""


LOOPBACK_NAMES = ("localhost", "127.0.0.1", "::1")


def silence_third_party() -> None:
    """Switch telemetry and log messages off; errors still arrive as exceptions. No proxy is used within this machine.

    Call it before Flower or Ray is imported.
    """
    os.environ.update(SETTINGS)
    os.environ.update(_no_proxy())
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    logging.getLogger("ray").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"(flwr|ray)\b.*")


def _no_proxy() -> dict[str, str]:
    """Variables by which connections to this machine itself go to no proxy: Flower's programs and Ray have such."""
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    names = [name.strip() for name in named.split(",") if name.strip()]
    value = "*" if "*" in names else ",".join(dict.fromkeys([*names, *LOOPBACK_NAMES]))
    return {"no_proxy": value, "NO_PROXY": value}


def show_argument_help() -> None:
    """Let `--help` describe positional arguments: click 8.5 clears the text that typer 0.20 sets before calling it."""
    from typer.core import TyperArgument

    original = TyperArgument.__init__

    def init(self: TyperArgument, *args: Any, help: str | None = None, **options: Any) -> None:
        original(self, *args, help=help, **options)
        self.help = help

    TyperArgument.__init__ = init  # type: ignore[method-assign]
