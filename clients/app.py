"""The ClientApp: the thin layer between Flower's messages and a site's work."""

import logging
from collections.abc import Callable
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import work
from clients.flower_internals import ErrorCode
from clients.ray_security import protect_flower_simulation
from clients.workspace import Workspace, workspace_from_context
from fedbus.models.state import State
from fedbus.system.threads import let_threads_sleep
from fedbus.transport.allow_list import check_answer, check_registration
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, Instruction
from fedbus.transport.shared_memory import SharedArrays
from fedbus.transport.weights import WeightCodec

Handler = Callable[[Message, Context], Message]

Locate = Callable[[Context, Instruction], Workspace]
"""Says which site a node is, and where its data lie, prepared for the order's study."""


def make_client_app(
    locate: Locate, *, expose_errors: bool = False, shared_arrays: SharedArrays | None = None
) -> ClientApp:
    """Build the application that a node runs.

    Args:
        locate: finds the site.
        expose_errors: tell the server an error's text. Only for simulations, where server and site are one machine:
            the text may name files of the archive.
        shared_arrays: where models lie that messages only name; None: messages hold them.
    """
    app = ClientApp()

    def guarded(handle: Handler) -> Handler:
        return handle if expose_errors else _hide_errors(handle)

    def codec_for(instruction: Instruction) -> WeightCodec:
        return WeightCodec(instruction.settings.payload, work.layout(instruction), shared_arrays)

    @app.query()
    @guarded
    def register(message: Message, context: Context) -> Message:
        instruction = _order(message)
        config, metrics = work.register(locate(context, instruction), instruction).to_records()
        check_registration(config, metrics)
        content = RecordDict({CONFIG: ConfigRecord(config), METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.train()
    @guarded
    def train(message: Message, context: Context) -> Message:
        instruction = _order(message)
        codec = codec_for(instruction)
        state, report = work.train(locate(context, instruction), instruction, _state(message, codec))
        arrays, metrics = codec.pack(state), report.to_metrics()
        check_answer(metrics, {key: value.shape for key, value in arrays.items()}, codec.layout)
        packed = ArrayRecord({key: Array(value) for key, value in codec.to_message(arrays).items()})
        content = RecordDict({ARRAYS: packed, METRICS: MetricRecord(metrics)})
        return Message(content=content, reply_to=message)

    @app.evaluate()
    @guarded
    def evaluate(message: Message, context: Context) -> Message:
        instruction = _order(message)
        codec = codec_for(instruction)
        metrics = work.evaluate(locate(context, instruction), instruction, _state(message, codec)).to_metrics()
        check_answer(metrics, {}, codec.layout)
        return Message(content=RecordDict({METRICS: MetricRecord(metrics)}), reply_to=message)

    return app


def _hide_errors(handle: Handler) -> Handler:
    """Say what went wrong at the site, and to the server only that something did."""

    def handled(message: Message, context: Context) -> Message:
        try:
            return handle(message, context)
        except Exception as error:
            logging.getLogger("fedbus").error("%s", error)
            reason = f"{type(error).__name__}; the site's own log says more"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    return handled


def _order(message: Message) -> Instruction:
    return Instruction.from_config(cast(ConfigRecord, message.content[CONFIG]))


def _state(message: Message, codec: WeightCodec) -> State:
    record = cast(ArrayRecord, message.content[ARRAYS])
    return codec.from_message({key: array.numpy() for key, array in record.items()})


let_threads_sleep()  # `flwr run` starts its workers from here
protect_flower_simulation()
app = make_client_app(workspace_from_context)
