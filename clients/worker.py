"""The worker of a site: takes what its SuperNode was sent, and runs the application that is installed here.

Flower's own executor starts a process for every message, from code that the hub sent. This one stays: PyTorch is
imported, the model built and the images mapped once. And it never runs what the hub sent: the bundle is compared with
the operator's approval and with the files that are installed, and only then do the installed ones run.
"""

import threading
import time
from collections.abc import Callable

import httpx
from flwr.app import Context, Error, Message
from flwr.clientapp import ClientApp
from flwr.common.constant import SubStatus
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest
from flwr.supercore.constant import TaskType
from flwr.supercore.fab import Fab
from flwr.supercore.heartbeat import HeartbeatSender
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

POLL_SECONDS = 0.2
ACQUIRE = "/flwr.proto.Runtime/AcquireTask"

Refuse = Callable[[Fab], Error | None]
"""Gives the error that the hub gets in place of work for a bundle, or None if the site works for it."""


class Worker:
    """Works for one SuperNode on this machine.

    Args:
        runtime: host:port of the SuperNode's runtime API.
        secret: what the SuperNode knows its worker by.
        application: the installed ClientApp.
        refuse: checks a bundle before its first message is looked at.
        say: told in words what is going on.
    """

    def __init__(
        self, runtime: str, secret: bytes, application: ClientApp, refuse: Refuse, say: Callable[[str], object]
    ) -> None:
        self.runtime, self.application, self.refuse, self.say = runtime, application, refuse, say
        self.doorman = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE}))
        )

    def run(self, stop: threading.Event, alive: Callable[[], bool]) -> None:
        """Work until `stop` is set or the SuperNode is no longer alive."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        while not stop.is_set() and alive():
            try:
                answer = self.doorman.AcquireTask(request)
            except httpx.HTTPError:  # the SuperNode is starting, or about to end
                stop.wait(POLL_SECONDS)
                continue
            if answer.HasField("task") and answer.token:
                self._work(answer.token)
            stop.wait(POLL_SECONDS)

    def _work(self, token: str) -> None:
        client = self._client(RuntimeTokenHttpInterceptor(token))
        heartbeat = HeartbeatSender(lambda: _beat(client))
        heartbeat.start()
        context: Context | None = None
        status, details = SubStatus.FAILED, ""
        try:
            message, context, _, bundle = pull_task_input(client)
            reply = self._answer(message, context, bundle)
            push_message(client, reply, context)
            status = SubStatus.COMPLETED
        except (httpx.HTTPError, RuntimeError) as error:  # the hub or the SuperNode went away in between
            details = type(error).__name__
            self.say(f"an answer could not be handed over ({details}); the hub will ask again")
        finally:
            push_task_output(client, context, status, details)
            heartbeat.stop()
            client.close()

    def _answer(self, message: Message, context: Context, bundle: Fab) -> Message:
        refusal = self.refuse(bundle)
        if refusal is not None:
            return Message(refusal, reply_to=message)
        started = time.monotonic()
        reply = self.application(message=message, context=context)
        kind = message.metadata.message_type
        self.say(f"{kind} answered in {time.monotonic() - started:.1f} s")
        return reply

    def _client(self, identity: ProtobufClientInterceptor) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self.runtime,
            insecure=True,  # never leaves this machine
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedbus"), identity],
        )


def _beat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperNode that its task is being worked on; Flower's own function would end this process instead."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.HTTPError:
        return False
    return True
