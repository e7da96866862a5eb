"""The executor of a hub: it starts Flower's ServerApp for each run, once, and watches it until it has ended.

Flower's own executor starts the process and forgets it. Flower takes a task whose process has not reported within 30 s
for lost, and gives it out again. On a busy machine Python needs longer than that to start, so that a further process
was started every 30 s, and each stayed as a zombie after its end. This executor reports for a process as long as it
lives, and tells Flower when it has ended.
"""

import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

from fedbus.deployment.private_folder import write_private
from fedbus.errors import RunError
from fedbus.system.processes import end_child, start_child
from server.flower_internals import (
    AcquireTaskRequest,
    HeartbeatSender,
    PushTaskOutputRequest,
    RuntimeHttpClient,
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SendTaskHeartbeatRequest,
    SubStatus,
    SuperExecAuthHttpInterceptor,
    TaskType,
)
from server.hub.folder import HubFolder
from server.hub.superlink import HOST, flower_environment

POLL_SECONDS = 0.5
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"

Identity = SuperExecAuthHttpInterceptor | RuntimeTokenHttpInterceptor


@dataclass
class _Task:
    """A ServerApp that was started."""

    process: subprocess.Popen[bytes]
    client: RuntimeHttpClient
    heartbeat: HeartbeatSender
    token_file: Path


class Executor:
    """Starts ServerApps for the SuperLink of a hub.

    Args:
        hub: The hub's folder.
        secret: Proves to the SuperLink that this is its executor.
        folder: A private folder for the tokens of the tasks.
    """

    def __init__(self, hub: HubFolder, secret: bytes, folder: Path) -> None:
        self.hub, self.folder, self.tasks = hub, folder, list[_Task]()
        self.started = 0
        self.client = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE}))
        )

    def run(self, stop: threading.Event) -> None:
        """Start and watch ServerApps until `stop` is set, then end them."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.SERVER_APP])
        try:
            while not stop.wait(POLL_SECONDS):
                with suppress(httpx.HTTPError):  # the SuperLink is busy or ending
                    offer = self.client.AcquireTask(request)
                    if offer.HasField("task") and offer.token:
                        self._start(offer.token)
                for task in [task for task in self.tasks if task.process.poll() is not None]:
                    self._finish(task)
        finally:
            for task in list(self.tasks):
                end_child(task.process)
                self._finish(task)
            self.client.close()

    def _start(self, token: str) -> None:
        """Start the ServerApp of a task; its token is passed in a file, since every user can see arguments."""
        self.started += 1
        token_file, client = self.folder / f"token-{self.started}", self._client(RuntimeTokenHttpInterceptor(token))
        heartbeat = HeartbeatSender(lambda: _send_heartbeat(client))
        heartbeat.start()
        command = [
            "flwr-serverapp", "--runtime-api-address", self._address, "--root-certificates",
            str(self.hub.ca_certificate), "--token-file", str(token_file),
        ]  # fmt: skip
        try:
            write_private(token_file, token.encode("ascii"))
            process = start_child(command, self.hub.log, flower_environment(self.hub))
        except (OSError, RunError):  # no memory, or no space; Flower ends the run, and `hub run` says so
            _end(client, heartbeat)
            return
        self.tasks.append(_Task(process, client, heartbeat, token_file))

    def _finish(self, task: _Task) -> None:
        self.tasks.remove(task)
        task.token_file.unlink(missing_ok=True)
        _end(task.client, task.heartbeat)

    @property
    def _address(self) -> str:
        return f"{HOST}:{self.hub.settings.superlink_port}"

    def _client(self, identity: Identity) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self._address,
            insecure=False,
            root_certificates=self.hub.ca_certificate.read_bytes(),
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedbus"), identity],
        )


def _end(client: RuntimeHttpClient, heartbeat: HeartbeatSender) -> None:
    """Report the end of a process; Flower ignores that if the process has already reported its own."""
    if heartbeat.is_running:
        heartbeat.stop()
    with suppress(httpx.HTTPError):
        client.PushTaskOutput(
            PushTaskOutputRequest(sub_status=SubStatus.FAILED, details="The ServerApp's process has ended.")
        )
    client.close()


def _send_heartbeat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperLink that a task's process is alive; False if it does not answer, or the task is over."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.HTTPError:
        return False
    return True
