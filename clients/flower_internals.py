"""Everything a site uses of Flower that is not public: to support another Flower version, start here.

Public are `flwr.app` and `flwr.clientapp`, which other modules import directly.
"""

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

# Raised when a reply cannot be handed to the SuperNode.
from flwr.supercore.inflatable.inflatable_utils import ObjectPushError

# Headers with which a worker proves to its SuperNode who it is.
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)

# The bytes of a public key as the hub knows it.
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

# Base class of the interceptors, for type hints.
from flwr.supercore.protobuf.client import ProtobufClientInterceptor

# Client of the SuperNode's runtime API, through which a worker receives tasks.
from flwr.supercore.runtime import RuntimeHttpClient

# Client of the hub's API for nodes, and the signature it expects.
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

# Fetch the message of a task and hand back its reply; Flower's own executor wraps these in a process per message.
from flwr.supernode.runtime.run_clientapp import pull_task_input, push_message, push_task_output

__all__ = [
    "HEARTBEAT_DEFAULT_INTERVAL", "MAX_TIMESTAMP_DIFF_SECONDS", "MIN_TIMESTAMP_DIFF_SECONDS", "AcquireTaskRequest",
    "ActivateNodeRequest", "DeactivateNodeRequest", "ErrorCode", "Fab", "FleetHttpClient", "HeartbeatSender",
    "NodeAuthHttpInterceptor", "ObjectPushError", "ProtobufClientInterceptor", "RuntimeHttpClient",
    "RuntimeTokenHttpInterceptor", "RuntimeVersionHttpInterceptor", "SendTaskHeartbeatRequest", "SubStatus",
    "SuperExecAuthHttpInterceptor", "TaskType", "public_key_to_bytes", "pull_task_input", "push_message",
    "push_task_output", "run_supernode",
]  # fmt: skip


def run_supernode() -> None:
    """Run Flower's `flower-supernode` with the arguments of this process."""
    from flwr.supernode.cli.flower_supernode import flower_supernode  # slow, and only one process needs it

    flower_supernode()
