"""Everything a site uses of Flower that is not public: to support another Flower version, start here.

Public are `flwr.app` and `flwr.clientapp`, which other modules import directly.
"""

import time
from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.flower_version import check_flower_version

check_flower_version()  # before the imports below, which may fail with another version

# Error codes of replies, outcomes of tasks, and how often a node reports that it is alive.
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL, ErrorCode, SubStatus

# Requests that activate and deactivate a node, to ask the hub whether it has approved a site's key.
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest

# Requests of a worker to its SuperNode.
from flwr.proto.runtime_pb2 import AcquireTaskRequest, SendTaskHeartbeatRequest

# How far a site's clock may be off before the SuperLink refuses its requests, and the kind of task a worker accepts.
from flwr.supercore.constant import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS, TaskType

# The application bundle that comes with a task.
from flwr.supercore.fab import Fab

# Keeps a task alive while it is worked on.
from flwr.supercore.heartbeat import HeartbeatSender

# Raised when a reply cannot be handed to the SuperNode; both others fetch the objects of an instruction.
from flwr.supercore.inflatable.inflatable_utils import (
    ObjectPushError,
    pull_and_inflate_object_from_tree,
    pull_objects,
)

# Headers with which a worker proves to its SuperNode who it is.
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)

# The bytes of a public key as the hub knows it.
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

# Base class of the interceptors, for type hints, and what they are called with.
from flwr.supercore.protobuf.client import ProtobufClientInterceptor, ProtobufRequestContext

# Client of the SuperNode's runtime API, through which a worker receives tasks.
from flwr.supercore.runtime import RuntimeHttpClient

# Client of the hub's API for nodes, and the signature it expects.
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

# Fetch the message of a task and hand back its reply; Flower's own executor wraps these in a process per message.
from flwr.supernode.runtime import run_clientapp
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

__all__ = [
    "HEARTBEAT_DEFAULT_INTERVAL", "MAX_TIMESTAMP_DIFF_SECONDS", "MIN_TIMESTAMP_DIFF_SECONDS", "AcquireTaskRequest",
    "ActivateNodeRequest", "DeactivateNodeRequest", "ErrorCode", "Fab", "FleetHttpClient", "HeartbeatSender",
    "NodeAuthHttpInterceptor", "ObjectPushError", "ProtobufClientInterceptor", "RuntimeHttpClient",
    "RuntimeTokenHttpInterceptor", "RuntimeVersionHttpInterceptor", "SendTaskHeartbeatRequest", "SubStatus",
    "SuperExecAuthHttpInterceptor", "TaskType", "public_key_to_bytes", "pull_task_input", "push_message",
    "push_task_output", "run_supernode", "shorten_worker_pauses", "sign_request",
]  # fmt: skip

FIRST_RETRY_SECONDS, LAST_RETRY_SECONDS = 0.05, 1.0
"""Pauses between two questions for an object that has not arrived at the hub yet; Flower's are 1 to 10 s."""

MOST_TRIES = 40
"""Questions for one object, half a minute in all. The hub deletes an instruction that nobody waits for, perhaps
while a site that is back fetches it: the site must then ask for the next one, and not wait for hours."""

_QUICKLY: dict[str, Any] = {
    "initial_backoff": FIRST_RETRY_SECONDS, "backoff_cap": LAST_RETRY_SECONDS, "max_tries_per_object": MOST_TRIES,
}  # fmt: skip

fetch_objects = partial(pull_objects, **_QUICKLY)
"""Fetches the objects of an instruction; raises `ObjectPullError` if one does not arrive."""

_fetch_message = partial(pull_and_inflate_object_from_tree, **_QUICKLY)


def shorten_worker_pauses() -> None:
    """Have `pull_task_input` fetch the objects of a message with these pauses.

    A SuperNode offers a task before it has all of its message; Flower's own pauses begin with a second.

    Raises:
        RuntimeError: If Flower no longer fetches objects as it did.
    """
    found = getattr(run_clientapp, "pull_and_inflate_object_from_tree", None)
    if found not in (pull_and_inflate_object_from_tree, _fetch_message):
        raise RuntimeError("Flower's worker has changed.")
    patched: Any = run_clientapp
    patched.pull_and_inflate_object_from_tree = _fetch_message


def sign_request(request: httpx.Request, key: ec.EllipticCurvePrivateKey) -> None:
    """Sign the time of a request, as Flower's client of the hub's API for nodes does."""
    context = ProtobufRequestContext("", ActivateNodeRequest(), request)  # only the request is changed
    NodeAuthHttpInterceptor(key, key.public_key()).intercept(context, lambda _: httpx.Response(httpx.codes.OK))


def run_supernode(pause: Callable[[float], None]) -> None:
    """Run Flower's `flower-supernode` with the arguments of this process.

    Args:
        pause: Called with the seconds for which Flower's loop would sleep.

    Raises:
        RuntimeError: If that loop no longer pauses or fetches objects as it did.
    """
    from flwr.supernode import start_client_internal as loop  # slow, and only one process needs it
    from flwr.supernode.cli.flower_supernode import flower_supernode

    if getattr(loop, "time", None) is not time or getattr(loop, "pull_objects", None) is not pull_objects:
        raise RuntimeError("Flower's SuperNode has changed.")
    patched: Any = loop
    patched.time = SimpleNamespace(sleep=pause)
    patched.pull_objects = fetch_objects
    flower_supernode()
