"""Flower's own command line, as the hub uses it: keys of sites, runs, and what is going on."""

import json
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedbus.deployment.settings_file import toml_value
from fedbus.errors import RunError
from fedbus.system.processes import environment_with
from fedbus.system.third_party import SETTINGS
from server.hub.folder import HubFolder
from server.hub.superlink import flower_settings

CONNECTION = "hub"
"""Name of the connection in the hub's flower/config.toml."""

CALL_SECONDS = 120.0


@dataclass(frozen=True)
class Call:
    """One call of Flower's command line.

    Attributes:
        hub: at which hub.
        words: the command, without where and how to answer.
    """

    hub: HubFolder
    words: tuple[str, ...]

    @property
    def command(self) -> list[str]:
        """The command as an operator could type it; Flower's home must be the hub's."""
        return ["flwr", *self.words]

    @property
    def typed(self) -> str:
        """The whole line for a shell."""
        return f"FLWR_HOME={shlex.quote(str(self.hub.flower))} {shlex.join(self.command)}"

    def run(self) -> dict[str, Any]:
        """Make the call.

        Raises:
            RunError: the hub does not answer, or Flower refuses; its words are said.
        """
        environment = environment_with(SETTINGS | flower_settings(self.hub))
        try:
            done = subprocess.run(
                [*self.command, "--format", "json"],
                capture_output=True, text=True, env=environment, timeout=CALL_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise self._refused(str(error)) from error
        answer = _parse(done.stdout)
        if not answer.get("success"):
            raise self._refused(str(answer.get("error-message") or done.stderr or done.stdout).strip())
        return answer

    def _refused(self, why: str) -> RunError:
        return RunError(
            f"Flower refused `{' '.join(self.command[:3])}` ({why[-500:]}).",
            f"Check that the hub is running: fedbus hub start {self.hub.path}",
        )


def register(hub: HubFolder, public_key: Path, name: str) -> Call:
    """Let a site's key in."""
    return Call(hub, ("supernode", "register", str(public_key), CONNECTION, "--name", name))


def unregister(hub: HubFolder, node: int) -> Call:
    """Shut a site's key out."""
    return Call(hub, ("supernode", "unregister", str(node), CONNECTION))


def list_nodes(hub: HubFolder) -> Call:
    """All registered sites and whether they are connected."""
    return Call(hub, ("supernode", "list", CONNECTION))


def start_run(hub: HubFolder, application: Path, out: Path) -> Call:
    """Start the application with a prepared run folder."""
    return Call(hub, ("run", str(application), CONNECTION, "--run-config", f"hub-run={toml_value(str(out))}"))


def stop_run(hub: HubFolder, run: str) -> Call:
    """End a run."""
    return Call(hub, ("stop", run, CONNECTION))


def list_runs(hub: HubFolder) -> Call:
    """All runs and how they ended."""
    return Call(hub, ("list", CONNECTION))


def _parse(text: str) -> dict[str, Any]:
    try:
        answer = json.loads(text[text.index("{") :])
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}
