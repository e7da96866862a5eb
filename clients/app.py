"""The ClientApp: a thin layer between Flower's messages and a site's work."""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import logging
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from numpy.typing import NDArray

from clients import work
from clients.audit import SEE_LOG
from clients.flower_internals import ErrorCode
from clients.last_model import LastModel
from clients.limits.refusal import RefusedError
from clients.ray_security import protect_flower_simulation
from clients.secure_app import add_secure_actions
from clients.secure_sum import refuse_plain
from clients.workspace import Workspace, workspace_from_context
from fedbus.errors import FedbusError, OutOfRangeError, RunError
from fedbus.images.fingerprint import HASH_BYTES
from fedbus.models.state import State
from fedbus.text import MOST_OF_A_LINE, plain_text
from fedbus.transport.allow_list import check_registration, check_reply
from fedbus.transport.array_bytes import check_array_bytes
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, MODEL_MISSING, MOST_SEEN, SEEN, Instruction
from fedbus.transport.packing import layout_of
from fedbus.transport.shared_memory import SharedArrays
from fedbus.transport.weights import WeightCodec

Handler = Callable[[Message, Context], Message]

FindWorkspace = Callable[[Context, Instruction], Workspace]
"""Returns the workspace of a node's site, prepared for the settings of an instruction."""


def make_client_app(
    find_workspace: FindWorkspace, *, expose_errors: bool = False, shared_arrays: SharedArrays | None = None
) -> ClientApp:
    """Build the application that a node runs.

    Args:
        find_workspace: Called with every message.
        expose_errors: Whether the server receives the text of an error. Only for simulations, where server and site
            are one machine: the text may contain the names of image files.
        shared_arrays: Where models are stored that messages only refer to; None if messages contain them.
    """
    app, last = ClientApp(), LastModel()

    def guarded(handle: Handler) -> Handler:
        return _show_errors(handle) if expose_errors else _hide_errors(handle)

    def codec_for(instruction: Instruction) -> WeightCodec:
        return WeightCodec(instruction.settings.payload, work.layout(instruction), shared_arrays)

    @app.query()
    @guarded
    def register(message: Message, context: Context) -> Message:
        instruction = _read_instruction(message)
        config, metrics = work.register(find_workspace(context, instruction), instruction).to_records()
        check_registration(config, metrics)
        return Message(RecordDict({CONFIG: ConfigRecord(config), METRICS: MetricRecord(metrics)}), reply_to=message)

    @app.train()
    @guarded
    def train(message: Message, context: Context) -> Message:
        instruction = _read_instruction(message)
        refuse_plain(instruction)
        last.forget()
        workspace, codec = find_workspace(context, instruction), codec_for(instruction)
        received = _read_state(message, codec)
        update, report = work.train(workspace, instruction, received)
        packed, metrics = codec.pack_update(update, received), report.to_metrics()
        check_reply(metrics, {name: values.shape for name, values in packed.items()}, codec.layout)
        return _reply(message, metrics, codec.to_message(packed))

    @app.evaluate()
    @guarded
    def evaluate(message: Message, context: Context) -> Message:
        instruction = _read_instruction(message)
        refuse_plain(instruction)
        workspace, codec = find_workspace(context, instruction), codec_for(instruction)
        state = last.read(message, instruction, lambda: _read_state(message, codec))
        if state is None:
            return Message(Error(MODEL_MISSING, "the site no longer has the model"), reply_to=message)
        metrics = work.evaluate(workspace, instruction, state, _read_seen(message)).to_metrics()
        check_reply(metrics, {}, codec.layout)
        return _reply(message, metrics)

    def find(message: Message, context: Context) -> tuple[Workspace, Instruction]:
        instruction = _read_instruction(message)
        return find_workspace(context, instruction), instruction

    add_secure_actions(app, find, lambda m, instruction: _read_state(m, codec_for(instruction)), guarded, shared_arrays)
    return app


def _reply(message: Message, metrics: dict[str, Any], arrays: Mapping[str, NDArray[Any]] | None = None) -> Message:
    content = RecordDict({METRICS: MetricRecord(metrics)})
    if arrays is not None:
        content[ARRAYS] = ArrayRecord({name: Array(values) for name, values in arrays.items()})
    return Message(content=content, reply_to=message)


def _show_errors(handle: Handler) -> Handler:
    """Send the server the text of an expected error; of any other, Flower sends the traceback."""

    def handled(message: Message, context: Context) -> Message:
        try:
            return handle(message, context)
        except FedbusError as error:
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message)

    return handled


def _hide_errors(handle: Handler) -> Handler:
    """Log an error at the site; the server receives only its type, except of a refusal, whose text names no file.

    Of a value that is out of range, it receives the remedy: the text contains the value.
    """

    def handled(message: Message, context: Context) -> Message:
        try:
            return handle(message, context)
        except Exception as error:
            logging.getLogger("fedbus").error("%s", plain_text(error, MOST_OF_A_LINE))
            reason = f"{type(error).__name__}; {SEE_LOG}"
            if isinstance(error, RefusedError):
                reason = error.problem.rstrip(".")  # it becomes part of a sentence
            if isinstance(error, OutOfRangeError):
                reason = f"a value of its update is out of range; see the site's own log. {error.remedy.rstrip('.')}"
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    return handled


def _read_instruction(message: Message) -> Instruction:
    return Instruction.from_config(cast(ConfigRecord, message.content[CONFIG]))


def _read_state(message: Message, codec: WeightCodec) -> State:
    record = cast(ArrayRecord, message.content[ARRAYS])
    check_array_bytes({name: array.data for name, array in record.items()}, codec.layout)
    state = codec.from_message({name: array.numpy() for name, array in record.items()})
    if layout_of(state) != codec.layout:  # here, before a model is built
        raise RunError(
            "The arrays of the hub's message are not those of the model.", "Run the same version everywhere."
        )
    return state


def _read_seen(message: Message) -> NDArray[np.uint8] | None:
    """Return the hashes that come with a given model; None if the message has none.

    Raises:
        RunError: If they are no hashes, or too many.
    """
    if SEEN not in message.content:
        return None
    record = cast(ArrayRecord, message.content[SEEN])
    check_array_bytes({name: array.data for name, array in record.items()}, {SEEN: (MOST_SEEN, HASH_BYTES // 4)})
    hashes = record[SEEN].numpy() if list(record) == [SEEN] else np.empty(0)
    if hashes.dtype != np.uint8 or hashes.shape[1:] != (HASH_BYTES,) or len(hashes) > MOST_SEEN:
        raise RunError("The hashes of the hub's message are none.", "Run the same version everywhere.")
    return np.asarray(hashes)


protect_flower_simulation()
app = make_client_app(workspace_from_context)
