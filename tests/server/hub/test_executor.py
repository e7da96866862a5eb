"""A task of Flower's gets one process, which is reported alive while it starts, and leaves no zombie."""

import stat
import sys
import threading
from collections.abc import Callable

import psutil
import pytest

from server.flower_internals import SubStatus
from server.hub import executor as module
from server.hub.executor import Executor
from server.hub.folder import HubFolder, init_hub
from tests.fedbus.system.test_processes import wait_until


class Offer:
    def __init__(self, token: str) -> None:
        self.token = token

    def HasField(self, name: str) -> bool:  # noqa: N802 - as in Flower
        return bool(self.token)


class SuperLink:
    """The runtime API as the executor sees it: it offers one task and counts the signs of life."""

    def __init__(self) -> None:
        self.tokens, self.beats, self.outcomes, self.closed = ["secret-token"], 0, [], 0

    def AcquireTask(self, request: object) -> Offer:  # noqa: N802 - as in Flower
        return Offer(self.tokens.pop() if self.tokens else "")

    def SendTaskHeartbeat(self, request: object) -> None:  # noqa: N802 - as in Flower
        self.beats += 1

    def PushTaskOutput(self, request: object) -> None:  # noqa: N802 - as in Flower
        self.outcomes.append(request.sub_status)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def hub(tmp_path) -> HubFolder:
    return init_hub(tmp_path / "hub", "localhost")


def run_executor(hub: HubFolder, tmp_path, monkeypatch, code: str, until: Callable[[Executor, SuperLink], bool]):
    """Run an executor whose ServerApp is a Python program, until a condition holds; return the commands."""
    superlink, commands, start, stop = SuperLink(), [], module.start_child, threading.Event()

    def start_child(command, log, settings):
        commands.append((command, settings))
        token = command[command.index("--token-file") + 1]
        return start([sys.executable, "-c", code, token], log, settings)

    monkeypatch.setattr(module, "start_child", start_child)
    monkeypatch.setattr(module, "POLL_SECONDS", 0.02)
    monkeypatch.setattr(Executor, "_client", lambda self, identity: superlink)
    executor = Executor(hub, bytes(32), tmp_path)
    thread = threading.Thread(target=executor.run, args=(stop,))
    thread.start()
    try:
        assert wait_until(lambda: until(executor, superlink), 60), hub.log.read_text()
    finally:
        stop.set()
        thread.join()
    return superlink, commands


def test_a_process_is_started_once_with_its_token_in_a_private_file(hub, tmp_path, monkeypatch):
    code = "import os, sys; print(open(sys.argv[1]).read(), oct(os.stat(sys.argv[1]).st_mode & 0o777))"
    earlier = psutil.Process().children()  # of other tests
    superlink, commands = run_executor(hub, tmp_path, monkeypatch, code, lambda _, found: bool(found.outcomes))
    assert len(commands) == 1
    command, settings = commands[0]
    assert command[0] == "flwr-serverapp"
    assert "secret-token" not in " ".join(command)
    assert settings["FLWR_HOME"] == str(hub.flower)
    assert hub.log.read_text() == "secret-token 0o600\n"
    assert superlink.beats >= 1, "the task is alive from the first moment"
    assert superlink.outcomes == [SubStatus.FAILED], "Flower ignores it after the process's own report"
    assert not list(tmp_path.glob("token-*"))
    started = [child for child in psutil.Process().children() if child not in earlier]
    assert not [child for child in started if child.status() == psutil.STATUS_ZOMBIE]


def test_a_process_that_runs_when_the_hub_ends_is_ended(hub, tmp_path, monkeypatch):
    processes = []

    def started(executor: Executor, superlink: SuperLink) -> bool:
        processes.extend(task.process for task in executor.tasks)
        return bool(processes)

    superlink, _ = run_executor(hub, tmp_path, monkeypatch, "import time; time.sleep(60)", started)
    assert processes[0].returncode is not None
    assert superlink.outcomes == [SubStatus.FAILED]
    assert superlink.closed == 2


def test_a_program_that_cannot_be_started_fails_the_task_and_the_executor_continues(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "write_private", lambda path, content: (_ for _ in ()).throw(OSError(28, "full")))
    superlink, commands = run_executor(hub, tmp_path, monkeypatch, "", lambda _, found: bool(found.outcomes))
    assert superlink.outcomes == [SubStatus.FAILED]
    assert commands == []


def test_the_secret_of_the_executor_is_private(hub, tmp_path):
    from fedbus.deployment.private_folder import write_private
    from server.hub.superlink import superlink_command

    write_private(tmp_path / "secret", bytes(32))
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600
    command = superlink_command(hub, tmp_path / "secret")
    assert command[command.index("--isolation") + 1] == "process"
    assert command[command.index("--superexec-auth-secret-file") + 1] == str(tmp_path / "secret")
