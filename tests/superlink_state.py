"""Flower's real SuperLink without its processes: the state and the handlers of its calls, and sites that use them."""

from typing import Any

from flwr.app import Message, RecordDict
from flwr.app.message import remove_content_from_message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest
from flwr.proto.node_pb2 import Node
from flwr.proto.task_pb2 import Task
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME, NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.grid.http_grid import HttpGrid
from flwr.superlink.servicer.fleet import fleet_handlers
from flwr.superlink.servicer.runtime import runtime_handlers


class Handlers:
    """The calls of a ServerApp, answered by Flower's own handlers."""

    def __init__(self, state: Any, task: Task) -> None:
        self.state, self.task, self.calls = state, task, list[str]()

    def _call(self, name: str, request: Any) -> Any:
        self.calls.append(name)
        return getattr(runtime_handlers, name)(request, self.state, self.task)

    def PushMessages(self, request: Any) -> Any:  # noqa: N802
        return self._call("push_messages", request)

    def PullMessages(self, request: Any) -> Any:  # noqa: N802
        return self._call("pull_messages", request)

    def PushObject(self, request: Any) -> Any:  # noqa: N802
        return self._call("push_object", request)

    def PullObject(self, request: Any) -> Any:  # noqa: N802
        return self._call("pull_object", request)

    def ConfirmMessageReceived(self, request: Any) -> Any:  # noqa: N802
        return self._call("confirm_message_received", request)


class StateGrid(HttpGrid):
    """The grid of a deployed run, beside the SuperLink's state in memory."""

    def __init__(self, nodes: int) -> None:
        super().__init__(token="unused")
        self.state = self.make_state()
        run = self.state.create_run(None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP)
        self.nodes = [self.state.create_node("a", "a", f"key {i}".encode(), 3600) for i in range(nodes)]
        for node in self.nodes:
            self.state.activate_node(node, 3600)
        task = self.state.get_tasks(run_ids=[run])[0].task_id
        self.state.claim_task(task)
        self.state.activate_task(task)
        self.handlers = Handlers(self.state, Task(run_id=run, task_id=1))
        self.run_number = run
        self._run = Run.create_empty(run)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, run, 1

    def make_state(self) -> Any:
        return LinkStateFactory(FLWR_IN_MEMORY_DB_NAME, NoOpFederationManager(), ObjectStoreFactory()).state()

    @property
    def _runtime_client(self) -> Any:
        return self.handlers


def announce(
    grid: StateGrid, node: int, reply: Message, tree: ObjectTree | None = None, instruction: Message | None = None
) -> tuple[str, dict[str, bytes]]:
    """Push a reply as a site's SuperNode does, without its objects.

    Args:
        grid: The hub's grid.
        node: The site.
        reply: What the site answers.
        tree: The objects that it announces; None: those of the reply.
        instruction: What its header says that it answers, which Flower checks; None: what its content says.

    Returns:
        The session, and the content of each object.
    """
    contents = {name: value.deflate() for name, value in get_all_nested_objects(reply).items()}
    reply.metadata.__dict__["_message_id"] = reply.object_id
    outside = Message(RecordDict(), reply_to=instruction) if instruction else reply
    header = message_to_proto(remove_content_from_message(outside))
    header.metadata.message_id = reply.object_id
    request = PushMessagesRequest(
        node=Node(node_id=node), messages_list=[header], message_object_trees=[tree or get_object_tree(reply)]
    )
    return fleet_handlers.push_messages(request, grid.state).session_id, contents


def upload(grid: StateGrid, node: int, session: str, contents: dict[str, bytes]) -> None:
    for name, content in contents.items():
        fleet_handlers.push_object(
            PushObjectRequest(
                node=Node(node_id=node),
                run_id=grid.run_number,
                object_id=name,
                object_content=content,
                session_id=session,
            ),
            grid.state,
        )
