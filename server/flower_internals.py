"""Everything the server uses of Flower that is not public: to support another Flower version, start here.

Public are `flwr.app`, `flwr.serverapp` and `flwr.serverapp.strategy`, which other modules import directly.

Simulations use the public `flwr.simulation.run_simulation`, which Flower 1.41 deprecates in favour of `flwr run`. Once
it is removed, `simulations/flower_simulation.py` has to start `flwr run` in a process of its own. `server.app:app` and
`clients.app:app` already run that way, one arm per run.
"""

from collections.abc import Callable
from typing import Any, cast

from fedbus.deployment.flower_version import check_flower_version

check_flower_version()  # before the imports below, which may fail with another version

# Builds the bundle of the application in process: the operator of a site approves its digest.
from flwr.cli.build import build_fab_from_disk

# Error codes of replies, which tell a site that disconnected from a site that failed; the variables that would open
# Flower's gRPC ports, on all interfaces.
# Also the account under which Flower registers nodes.
from flwr.common.constant import (
    FLWR_INTERNAL_GRPC_CONTROL_API,
    FLWR_INTERNAL_GRPC_FLEET_API,
    NOOP_ACCOUNT_NAME,
    NOOP_FLWR_AID,
    ErrorCode,
    SubStatus,
)

# Questions about sites and about a run, and its end.
from flwr.proto.control_pb2 import ListNodesRequest, ListRunsRequest, StopRunRequest

# The requests in which a SuperNode sends replies, of which the gateway checks who they are from, and asks for
# instructions, which the gateway holds until there is one.
from flwr.proto.fleet_pb2 import PullMessagesRequest, PushMessagesRequest

# Calls by which the hub fetches replies from its SuperLink, so that it can limit them.
from flwr.proto.message_pb2 import ConfirmMessageReceivedRequest as Confirmation
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.message_pb2 import PullObjectRequest as ObjectRequest

# Requests of the executor, which starts the ServerApp of a run.
from flwr.proto.runtime_pb2 import AcquireTaskRequest, PushTaskOutputRequest, SendTaskHeartbeatRequest
from flwr.proto.runtime_pb2 import PullAppMessagesRequest as ReplyRequest

# The SuperLink's state, which the hub fills with its approved sites, and the module that makes it.
from flwr.server.superlink.linkstate import InMemoryLinkState, linkstate_factory

# Flower's default aggregation of metrics, which the benchmark's plain federation wraps to take notes.
from flwr.serverapp.strategy.strategy_utils import aggregate_metricrecords

# The signature of a SuperNode's request and how old it may be: the gateway checks both before it reads the body. Also
# the kind of task that the executor accepts.
from flwr.supercore.constant import MAX_TIMESTAMP_DIFF_SECONDS, MIN_TIMESTAMP_DIFF_SECONDS, TaskType

# Client of the control API.
from flwr.supercore.control import ControlHttpClient

# Keeps a task alive while its process runs.
from flwr.supercore.heartbeat import HeartbeatSender

# The type, parts and body of one object of a reply, and the reply from all of its objects.
from flwr.supercore.inflatable.inflatable_object import get_object_body as body_of_type
from flwr.supercore.inflatable.inflatable_object import get_object_children_ids_from_object_content as children_of
from flwr.supercore.inflatable.inflatable_object import get_object_type_from_object_content as object_type
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents as inflate

# Headers with which the executor proves to the SuperLink who it is.
from flwr.supercore.interceptors import (
    RuntimeTokenHttpInterceptor,
    RuntimeVersionHttpInterceptor,
    SuperExecAuthHttpInterceptor,
)
from flwr.supercore.primitives.asymmetric import public_key_to_bytes, verify_signature

# Client of the SuperLink's runtime API, through which the executor receives tasks and a run its replies.
from flwr.supercore.runtime import RuntimeHttpClient

# The grid of a deployed run.
from flwr.superlink.grid.http_grid import HttpGrid

# The grid of a simulation, in which `server/rounds/delivery.py` finds messages.
from flwr.superlink.grid.inmemory_grid import InMemoryGrid

__all__ = [
    "FLWR_INTERNAL_GRPC_CONTROL_API", "FLWR_INTERNAL_GRPC_FLEET_API", "MAX_TIMESTAMP_DIFF_SECONDS",
    "MIN_TIMESTAMP_DIFF_SECONDS", "OWNER", "OWNER_NAME", "AcquireTaskRequest", "Confirmation", "ControlHttpClient",
    "ErrorCode", "HeartbeatSender", "HttpGrid", "InMemoryGrid", "InMemoryLinkState", "ListNodesRequest",
    "ListRunsRequest", "ObjectRequest", "ObjectTree", "PullMessagesRequest", "PushMessagesRequest",
    "PushTaskOutputRequest", "ReplyRequest", "RuntimeHttpClient", "RuntimeTokenHttpInterceptor",
    "RuntimeVersionHttpInterceptor", "SendTaskHeartbeatRequest", "StopRunRequest", "SubStatus",
    "SuperExecAuthHttpInterceptor", "TaskType", "aggregate_metricrecords", "body_of_type", "build_fab_from_disk",
    "children_of", "inflate", "object_type", "public_key_to_bytes", "run_number", "run_superlink",
    "runtime_client", "verify_signature",
]  # fmt: skip

OWNER, OWNER_NAME = NOOP_FLWR_AID, NOOP_ACCOUNT_NAME
"""Flower's only account, to which all nodes and runs belong."""


def run_superlink(make_state: Callable[..., InMemoryLinkState]) -> None:
    """Run Flower's `flower-superlink` with the arguments of this process.

    Args:
        make_state: Makes the state, called with what Flower passes to `InMemoryLinkState`.

    Raises:
        RuntimeError: If Flower made another state.
    """
    from flwr.superlink import main  # slow, and only one process needs it
    from flwr.superlink.cli import flower_superlink

    made = list[InMemoryLinkState]()

    def make(*arguments: Any) -> InMemoryLinkState:
        made.append(make_state(*arguments))
        return made[-1]

    def create_app(*arguments: Any) -> Any:
        app = create(*arguments)
        if not made:
            raise RuntimeError("Flower has not made the hub's state.")
        return app

    create, factory_module, main_module = main.create_app, cast(Any, linkstate_factory), cast(Any, main)
    factory_module.InMemoryLinkState, main_module.create_app = make, create_app
    flower_superlink()


def runtime_client(grid: HttpGrid) -> RuntimeHttpClient:
    """Return the connection of a deployed run to its SuperLink."""
    return grid._runtime_client


def run_number(grid: HttpGrid) -> int:
    """Return Flower's number of a deployed run."""
    return grid.run.run_id
