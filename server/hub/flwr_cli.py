"""Flower's command line as the hub uses it: to register keys, start runs and list nodes."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.deployment.settings_file import toml_value
from fedbus.errors import RunError
from fedbus.system.processes import environment_with
from fedbus.system.third_party import SETTINGS
from fedbus.text import plain_text
from server.hub.folder import HubFolder
from server.hub.superlink import flower_environment, shell_command

CONNECTION = "hub"
"""Name of the connection in the hub's flower/config.toml."""

TIMEOUT_SECONDS = 120.0

MAX_REASON = 500
"""Characters of Flower's output in an error: its end, which is where a traceback has its cause."""


@dataclass(frozen=True)
class FlwrCommand:
    """A `flwr` command for one hub.

    Attributes:
        hub: The hub.
        arguments: The command's arguments, without the output format.
    """

    hub: HubFolder
    arguments: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The program and its arguments; it must run in `flower_environment` of the hub."""
        return ["flwr", *self.arguments]

    @property
    def shell_command(self) -> str:
        """The command for a shell, with the environment that it needs."""
        return shell_command(self.hub, self.command)

    def run(self) -> dict[str, Any]:
        """Run the command.

        Returns:
            Flower's answer.

        Raises:
            RunError: If the hub does not answer, or Flower reports an error, which the message includes.
        """
        environment = environment_with(SETTINGS | flower_environment(self.hub))
        try:
            done = subprocess.run(
                [*self.command, "--format", "json"],
                capture_output=True, text=True, env=environment, timeout=TIMEOUT_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._failure(str(error)) from error
        # Only the answer counts: that is where Flower reports an error, whatever its exit status.
        answer = _parse_answer(done.stdout)
        if not answer.get("success"):
            raise self._failure(str(answer.get("error-message") or done.stderr or done.stdout).strip())
        return answer

    def _failure(self, reason: str) -> RunError:
        return RunError(
            f"Flower refused `{' '.join(self.command[:3])}` ({plain_text(reason[-MAX_REASON:])}).",
            f"Check that the hub is running: fedbus hub start {self.hub.path}",
        )


def register(hub: HubFolder, public_key: Path, name: str) -> FlwrCommand:
    """Register a site's key under its name."""
    return FlwrCommand(hub, ("supernode", "register", str(public_key), CONNECTION, "--name", name))


def unregister(hub: HubFolder, node: int) -> FlwrCommand:
    """Remove the key of a site."""
    return FlwrCommand(hub, ("supernode", "unregister", str(node), CONNECTION))


def list_nodes(hub: HubFolder) -> FlwrCommand:
    """List the registered sites and whether they are connected."""
    return FlwrCommand(hub, ("supernode", "list", CONNECTION))


def start_run(hub: HubFolder, application: Path, out: Path) -> FlwrCommand:
    """Start the application on a prepared run folder."""
    return FlwrCommand(hub, ("run", str(application), CONNECTION, "--run-config", f"hub-run={toml_value(str(out))}"))


def _parse_answer(text: str) -> dict[str, Any]:
    """Parse Flower's JSON, which may follow lines of progress; {} if there is none."""
    try:
        answer = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
