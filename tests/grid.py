"""A grid whose nodes run in this process: the real server side with the real ClientApp, without Ray."""

import uuid
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from clients.app import make_client_app
from clients.workspace import Workspace
from fedbus.runs.site_keys import simulated_key
from fedbus.transport.messages import Instruction
from fedbus.transport.shared_memory import SharedArrays

Hook = Callable[[str, Message], Message | None]
"""Called with a site's name and a message to it; returns a reply, None for silence, or NotImplemented to deliver it."""

Spoil = Callable[[str, Message], None]
"""Called with a site's name and its reply, which it can change."""


class LocalGrid(Grid):
    """Delivers each message to the node's ClientApp when it is pushed; `hook` and `spoil` can make a site misbehave."""

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        hook: Hook | None = None,
        spoil: Spoil = lambda site, reply: None,
        shared_arrays: SharedArrays | None = None,
    ) -> None:
        self.names = dict(zip(range(101, 101 + len(names)), names, strict=True))
        self.hook, self.spoil = hook, spoil
        self.models: Path | None = None
        self.replies: dict[str, Message] = {}
        self.sent: list[Message] = []

        # The sender, which Flower's own processes set.
        TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1

        def find_workspace(context: Context, instruction: Instruction) -> Workspace:
            name = self.names[context.node_id]
            return Workspace(out, name, "cpu", self.models, key=simulated_key(out, name))

        self.app: ClientApp = make_client_app(find_workspace, shared_arrays=shared_arrays)

    def set_run(self, run: object) -> None:
        raise NotImplementedError

    @property
    def run(self) -> object:
        raise NotImplementedError

    def create_message(self, *args: object, **kwargs: object) -> Message:
        raise NotImplementedError

    def send_and_receive(self, *args: object, **kwargs: object) -> Iterable[Message]:
        raise NotImplementedError

    def get_nodes(self) -> Iterable[object]:
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        return list(self.names)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        identifiers = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = identifier = str(uuid.uuid4())
            self.sent.append(message)
            reply = self._deliver(message)
            if reply is not None:
                self.spoil(self.names[message.metadata.dst_node_id], reply)
                self.replies[identifier] = reply
            identifiers.append(identifier)
        return identifiers

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        # Last sent, first received: the server must not depend on the order.
        return [self.replies.pop(i) for i in reversed(list(message_ids)) if i in self.replies]

    def _deliver(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        if self.hook is not None:
            answer = self.hook(self.names[node], message)
            if answer is not NotImplemented:
                return answer
        context = Context(run_id=1, node_id=node, node_config={}, state=RecordDict(), run_config={})
        try:
            return self.app(message=message, context=context)
        except Exception as error:  # like Flower, turn an error into a reply
            return Message(Error(code=1, reason=str(error)), reply_to=message)
