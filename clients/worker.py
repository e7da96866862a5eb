"""The worker of a site: it receives messages from its SuperNode and runs the installed application on them.

Flower's own executor starts a new process for every message and runs code that the hub sent. This worker is one
process, so PyTorch is imported, the model built and the images mapped only once. It never runs code that the hub sent:
it compares bundle and message with the operator's approval, and the bundle with the installed files, which it runs.
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

from clients.array_exchange import ArrayExchange
from clients.audit import SEE_LOG, Record
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
    shorten_worker_pauses,
)
from fedbus.deployment.application import digest_of
from fedbus.errors import RunError
from fedbus.system.allocator import release_freed_memory
from fedbus.system.polling import pause_after
from fedbus.text import plain_text

ACQUIRE = "/flwr.proto.Runtime/AcquireTask"

NO_RECORD = "its audit log could not be written"
"""The reason for an answer that the site does not send, because it could not record it."""

CheckMessage = Callable[[Fab, Message], Error | None]
"""Returns the error that is sent to the hub if the site refuses a bundle or its message, or None if it works for it."""


@dataclass
class _Task:
    """One message from the SuperNode, with the connection over which the reply is sent."""

    client: RuntimeHttpClient
    heartbeat: HeartbeatSender
    message: Message
    context: Context
    bundle: Fab


class Worker:
    """Works for one SuperNode on this machine.

    Messages are fetched in threads, and processed one after another, arrays included, in the thread that calls `run`. A
    fetch takes as long as the SuperNode takes to receive the message, or fails: when a run ends meanwhile, the
    SuperNode continues to offer a task whose content will never arrive.

    Args:
        runtime: host:port of the SuperNode's runtime API.
        secret: Proves to the SuperNode that this is its worker.
        application: The installed ClientApp.
        check_message: Called with every message and its bundle before the message reaches the application.
        record: Records an answer before it is sent.
        exchange: Fetches the arrays of messages, and sends those of answers.
        log: Called with what happens.
    """

    def __init__(
        self,
        runtime: str,
        secret: bytes,
        application: ClientApp,
        check_message: CheckMessage,
        record: Record,
        exchange: ArrayExchange,
        log: Callable[[str], object],
    ) -> None:
        self.runtime, self.application, self.check_message, self.log = runtime, application, check_message, log
        self.record, self.exchange = record, exchange
        shorten_worker_pauses()  # here, where a Flower that has changed is noticed
        self.fetched: queue.Queue[_Task] = queue.Queue()
        self.task_client = self._client(
            SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=frozenset({ACQUIRE}))
        )

    def run(self, stop: threading.Event, alive: Callable[[], bool]) -> None:
        """Process messages until `stop` is set or the SuperNode is no longer alive."""
        request = AcquireTaskRequest(supported_task_types=[TaskType.CLIENT_APP])
        last = time.monotonic()
        while not stop.is_set() and alive():
            with suppress(httpx.HTTPError):  # the SuperNode is starting or ending
                offer = self.task_client.AcquireTask(request)
                if offer.HasField("task") and offer.token:
                    threading.Thread(target=self._fetch, args=(offer.token,), daemon=True).start()
            with suppress(queue.Empty):
                self._process(self.fetched.get(timeout=pause_after(time.monotonic() - last)))
                release_freed_memory()  # for other programs, until the next message comes
                last = time.monotonic()

    def _fetch(self, token: str) -> None:
        client = self._client(RuntimeTokenHttpInterceptor(token))
        heartbeat = HeartbeatSender(lambda: _send_heartbeat(client))
        heartbeat.start()
        try:
            message, context, _, bundle = pull_task_input(client)
        except Exception:  # the run or the SuperNode has ended, or the hub's message is damaged
            _finish(client, heartbeat, None, SubStatus.FAILED)
        else:
            self.fetched.put(_Task(client, heartbeat, message, context, bundle))

    def _process(self, task: _Task) -> None:
        status = SubStatus.FAILED
        try:
            run = self.exchange.name_in(task.message)
            reply = self._recorded(task, self._reply_to(task, run))
            push_message(task.client, self._without_arrays(task, reply, run), task.context)
            status = SubStatus.COMPLETED
        except (httpx.HTTPError, ObjectPushError) as error:
            self.log(f"a message could not be fetched or answered ({type(error).__name__}); the hub may ask again")
        finally:
            _finish(task.client, task.heartbeat, task.context, status)

    def _without_arrays(self, task: _Task, reply: Message, run: str) -> Message:
        """Send the arrays of a reply ahead; if the hub refuses them, the reply says so, and nothing waits for them."""
        try:
            self.exchange.send(reply, run)
        except RunError as error:
            self.log(str(error))
            reason = f"{type(error).__name__}; {SEE_LOG}"
            return self._recorded(
                task, Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=task.message)
            )
        return reply

    def _reply_to(self, task: _Task, run: str) -> Message:
        refusal = self.check_message(task.bundle, task.message)
        if refusal is not None:
            return Message(refusal, reply_to=task.message)
        started = time.monotonic()
        try:
            self.exchange.fetch(task.message, run)
            reply = self.application(message=task.message, context=task.context)
        except httpx.HTTPError:  # the hub is away
            raise
        except Exception as error:  # for example, a kind of message that the application does not handle
            self.log(f"{type(error).__name__}: {error}")
            reason = f"{type(error).__name__}; {SEE_LOG}"
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=task.message)
        kind = plain_text(task.message.metadata.message_type)
        outcome = "failed" if reply.has_error() else "answered"
        self.log(f"{kind} {outcome} in {time.monotonic() - started:.1f} s")
        return reply

    def _recorded(self, task: _Task, reply: Message) -> Message:
        """Record a reply and return it; without a record, nothing but that leaves."""
        try:
            self.record(digest_of(task.bundle.content), task.message, reply)
        except RunError as error:
            self.log(str(error))
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, NO_RECORD), reply_to=task.message)
        return reply

    def _client(self, identity: ProtobufClientInterceptor) -> RuntimeHttpClient:
        return RuntimeHttpClient.from_server_address(
            server_address=self.runtime,
            insecure=True,  # the connection does not leave this machine
            root_certificates=None,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="fedbus"), identity],
        )


def _finish(client: RuntimeHttpClient, heartbeat: HeartbeatSender, context: Context | None, status: str) -> None:
    heartbeat.stop()
    push_task_output(client, context, status, "")
    client.close()


def _send_heartbeat(client: RuntimeHttpClient) -> bool:
    """Tell the SuperNode that its task is being processed; Flower's own function would end the process on failure."""
    try:
        client.SendTaskHeartbeat(SendTaskHeartbeatRequest())
    except httpx.HTTPError:
        return False
    return True
