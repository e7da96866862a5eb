"""Flower's command line: its arguments and environment, and the message when it reports an error."""

import json
import os
import shlex
import subprocess
from pathlib import Path

import pytest

from fedbus.errors import RunError
from server.hub import flwr_cli
from server.hub.folder import HubFolder, init_hub


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "a hub's $HOME", "127.0.0.1")


class Program:
    """A replacement for `subprocess.run` that prints what it was given and records how it was called."""

    def __init__(self, stdout: str = "", stderr: str = "", error: Exception | None = None, code: int = 0) -> None:
        self.stdout, self.stderr, self.error, self.code = stdout, stderr, error, code
        self.command: list[str] = []
        self.options: dict[str, object] = {}

    def __call__(self, command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        self.command, self.options = command, options
        if self.error:
            raise self.error
        return subprocess.CompletedProcess(command, self.code, self.stdout, self.stderr)


def calls(hub: HubFolder) -> dict[str, tuple[flwr_cli.FlwrCommand, list[str]]]:
    out = Path("/runs/my run")
    return {
        "register": (
            flwr_cli.register(hub, Path("/keys/st mary.pub"), "st-mary"),
            ["flwr", "supernode", "register", "/keys/st mary.pub", "hub", "--name", "st-mary"],
        ),
        "unregister": (flwr_cli.unregister(hub, 7), ["flwr", "supernode", "unregister", "7", "hub"]),
        "list_nodes": (flwr_cli.list_nodes(hub), ["flwr", "supernode", "list", "hub"]),
        "start_run": (
            flwr_cli.start_run(hub, Path("/app"), out),
            ["flwr", "run", "/app", "hub", "--run-config", 'hub-run="/runs/my run"'],
        ),
    }


def test_a_shell_parses_every_command_correctly(hub):
    for name, (call, expected) in calls(hub).items():
        assert shlex.split(call.shell_command) == [f"FLWR_HOME={hub.flower}", *expected], name
    line = f"{flwr_cli.list_nodes(hub).shell_command.partition(' flwr ')[0]} sh -c 'printf %s \"$FLWR_HOME\"'"
    assert subprocess.run(line, shell=True, capture_output=True, text=True, check=True).stdout == str(hub.flower)


def test_commands_run_with_the_hubs_home_and_without_telemetry(hub, monkeypatch):
    monkeypatch.setenv("FEDBUS_INHERITED", "kept")
    for name, (call, expected) in calls(hub).items():
        program = Program('{"success": true, "run-id": "5"}')
        monkeypatch.setattr(subprocess, "run", program)
        assert call.run() == {"success": True, "run-id": "5"}, name
        assert program.command == [*expected, "--format", "json"]
        environment = program.options["env"]
        assert environment["FLWR_HOME"] == str(hub.flower)
        assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert environment["FEDBUS_INHERITED"] == "kept"
        assert environment["PATH"].endswith(os.environ["PATH"])


def test_output_before_the_answer_is_skipped(hub, monkeypatch):
    monkeypatch.setattr(subprocess, "run", Program('Loading...\n{"success": true, "nodes": []}'))
    assert flwr_cli.list_nodes(hub).run()["nodes"] == []


REFUSALS = {
    "a reason": Program(json.dumps({"success": False, "error-message": "key is taken"}), code=1),
    "exit status 0": Program(json.dumps({"success": False, "error-message": "key is taken"})),
    "on stderr": Program("", "key is taken\n", code=1),
    "on stdout": Program("key is taken", code=1),
    "not an object": Program('["key is taken"]', code=1),
    "broken JSON": Program('{"key is taken', code=1),
    "no program": Program(error=FileNotFoundError(2, "key is taken", "flwr")),
    "no answer": Program(error=subprocess.TimeoutExpired(["flwr", "key is taken"], 120)),
}


@pytest.mark.parametrize("program", REFUSALS.values(), ids=REFUSALS.keys())
def test_an_error_quotes_flower_and_has_a_remedy(program, hub, monkeypatch):
    monkeypatch.setattr(subprocess, "run", program)
    with pytest.raises(RunError, match="flwr supernode register") as error:
        flwr_cli.register(hub, Path("/keys/north.pub"), "north").run()
    assert "key is taken" in error.value.problem
    assert error.value.remedy == f"Check that the hub is running: fedbus hub start {hub.path}"


def test_a_long_error_is_cut_to_its_end(hub, monkeypatch):
    monkeypatch.setattr(subprocess, "run", Program("", "x" * 9000 + "the cause", code=1))
    with pytest.raises(RunError, match="the cause") as error:
        flwr_cli.list_nodes(hub).run()
    assert len(error.value.problem) < 600
