"""The worker of a site: takes what its SuperNode was sent, and runs the application that is installed here.

Flower's own executor starts a process for every message, from code that the hub sent. This one stays: PyTorch is
imported, the model built and the images mapped once. And it never runs what the hub sent: the bundle is compared with
the operator's approval and with the files that are installed, and only then do the installed ones run.
"""

import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

import httpx
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp

from clients.flower_internals import (
    AcquireTaskRequest,
    ErrorCode,
    Fab,
    HeartbeatSender,
    ObjectPushError,
    ProtobufClientInterceptor,
    RuntimeHttpClient,
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SendTaskHeartbeatRequest,
    SubStatus,
    SuperExecAuthHttpInterceptor,
    TaskType,
    pull_task_input,
    push_message,
    push_task_output,
)

POLL_SECONDS = 0.5
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"

Refuse = Callable[[Fab], Error | None]
"""Gives the error that the hub gets in place of work for a bundle, or None if the site works for it."""


@dataclass
class _Task:
    """One message that the SuperNode was sent, with the connection over which it is answered."""

    client: RuntimeHttpClient
    heartbeat: HeartbeatSender
    message: Message
    context: Context
    bundle: Fab


class Worker:
    """Works for one SuperNode on this machine.

    Messages are fetched by threads and answered by the one that calls `run`, one after another. A fetch can take as
    long as the line to the hub needs, or be in vain: when a run ends while its message is on the way, the SuperNode
    goes on offering a task whose content will never come.

    Args:
        runtime: host:port of the SuperNode's runtime API.
        secret: what the SuperNode knows its worker by.
        application: the installed ClientApp.
        refuse: checks a bundle before its message is looked at.
        log: told in words what is going on.
    """

    def __init__(
        self, runtime: str, secret: bytes, application: ClientApp, refuse: Refuse, log: Callable[[str], object]
    ) -> None:
        self.runtime, self.application, self.refuse, self.log = runtime, application, refuse, log
        self.fetched: queue.Queue[_Task] = queue.Queue()
        self.task_client = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE}))
        )

    def run(self, stop: threading.Event, alive: Callable[[], bool]) -> None:
        """Work until `stop` is set or the SuperNode is no longer alive."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        while not stop.is_set() and alive():
            with suppress(httpx.HTTPError):  # the SuperNode is starting, or about to end
                offer = self.task_client.AcquireTask(request)
                if offer.HasField("task") and offer.token:
                    threading.Thread(target=self._fetch, args=(offer.token,), daemon=True).start()
            with suppress(queue.Empty):
                self._serve(self.fetched.get(timeout=POLL_SECONDS))

    def _fetch(self, token: str) -> None:
        client = self._client(RuntimeTokenHttpInterceptor(token))
        heartbeat = HeartbeatSender(lambda: _beat(client))
        heartbeat.start()
        try:
            message, context, _, bundle = pull_task_input(client)
        except Exception:  # the run or the SuperNode ended in between, or what the hub sent can't be rebuilt
            _finish(client, heartbeat, None, SubStatus.FAILED)
        else:
            self.fetched.put(_Task(client, heartbeat, message, context, bundle))

    def _serve(self, task: _Task) -> None:
        status = SubStatus.FAILED
        try:
            reply = self._answer(task)
            push_message(task.client, reply, task.context)
            status = SubStatus.COMPLETED
        except (httpx.HTTPError, ObjectPushError) as error:
            self.log(f"an answer could not be handed over ({type(error).__name__}); the hub will ask again")
        finally:
            _finish(task.client, task.heartbeat, task.context, status)

    def _answer(self, task: _Task) -> Message:
        refusal = self.refuse(task.bundle)
        if refusal is not None:
            return Message(refusal, reply_to=task.message)
        started = time.monotonic()
        try:
            reply = self.application(message=task.message, context=task.context)
        except Exception as error:  # such as an order of a kind that this application does not know
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, type(error).__name__), reply_to=task.message)
        kind = task.message.metadata.message_type
        outcome = "failed" if reply.has_error() else "answered"
        self.log(f"{kind} {outcome} in {time.monotonic() - started:.1f} s")
        return reply

    def _client(self, identity: ProtobufClientInterceptor) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self.runtime,
            insecure=True,  # never leaves this machine
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedbus"), identity],
        )


def _finish(client: RuntimeHttpClient, heartbeat: HeartbeatSender, context: Context | None, status: str) -> None:
    heartbeat.stop()
    push_task_output(client, context, status, "")
    client.close()


def _beat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperNode that its task is being worked on; Flower's own function would end this process instead."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.HTTPError:
        return False
    return True
