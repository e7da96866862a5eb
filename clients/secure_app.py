"""The ClientApp's actions for secure aggregation: between Flower's messages and the steps in `clients.secure_sum`."""

from collections.abc import Callable, Mapping
from typing import Any, cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from clients import secure_sum
from clients.workspace import Workspace
from fedbus.models.state import State
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, Instruction
from fedbus.transport.secure_records import (
    KEYS,
    KEYS_ACTION,
    MASKED_ACTION,
    MASKED_NUMBERS,
    MASKED_VALUES,
    SEALED,
    SECURE,
    SESSION,
    SHARES,
    SHARES_ACTION,
    TERMS,
    UNMASK_ACTION,
    read_by_name,
    read_bytes,
    read_names,
    read_text,
    write_by_name,
)
from fedbus.transport.shared_memory import SharedArrays
from fedbus.transport.summed_update import Sum

Handler = Callable[[Message, Context], Message]

Find = Callable[[Message, Context], tuple[Workspace, Instruction]]
"""Returns the workspace of a message's instruction, and the instruction."""

Send = Callable[..., tuple[Sum, dict[str, float]]]
"""`secure_sum.send_update` or `secure_sum.send_scores`."""


def add_secure_actions(
    app: ClientApp,
    find: Find,
    read_state: Callable[[Message, Instruction], State],
    guarded: Callable[[Handler], Handler],
    shared_arrays: SharedArrays | None,
) -> None:
    """Add the four steps to a ClientApp.

    Args:
        app: The ClientApp.
        find: Finds workspace and instruction.
        read_state: Reads the model of a message.
        guarded: Turns errors into replies.
        shared_arrays: As in `clients.app.make_client_app`.
    """

    @app.query(KEYS_ACTION)
    @guarded
    def keys(message: Message, context: Context) -> Message:
        workspace, instruction = find(message, context)
        terms = read_bytes(_secure(message), TERMS)
        return _reply(message, {KEYS: secure_sum.send_keys(workspace, instruction, _config(message), terms)})

    @app.query(SHARES_ACTION)
    @guarded
    def shares(message: Message, context: Context) -> Message:
        workspace, _ = find(message, context)
        session, of_sites = read_text(_secure(message), SESSION), read_by_name(_secure(message), KEYS)
        sealed = secure_sum.send_shares(workspace, _config(message), session, of_sites)
        return _reply(message, write_by_name(SEALED, sealed))

    def masked(send: Send) -> Handler:
        def handle(message: Message, context: Context) -> Message:
            workspace, instruction = find(message, context)
            state, session = read_state(message, instruction), read_text(_secure(message), SESSION)
            sealed = read_by_name(_secure(message), SEALED)
            vectors, metrics = send(workspace, instruction, _config(message), state, session, sealed)
            return _reply_with_vectors(message, vectors, metrics, shared_arrays)

        return guarded(handle)

    app.train(MASKED_ACTION)(masked(secure_sum.send_update))
    app.evaluate(MASKED_ACTION)(masked(secure_sum.send_scores))

    @app.query(UNMASK_ACTION)
    @guarded
    def unmask(message: Message, context: Context) -> Message:
        workspace, instruction = find(message, context)
        session, survivors = read_text(_secure(message), SESSION), read_names(_secure(message))
        return _reply(
            message, {SHARES: secure_sum.unmask(workspace, instruction, _config(message), session, survivors)}
        )


def _secure(message: Message) -> Mapping[str, Any]:
    return cast(ConfigRecord, message.content[SECURE])


def _config(message: Message) -> Mapping[str, Any]:
    return dict(cast(ConfigRecord, message.content[CONFIG]))


def _reply(message: Message, entries: dict[str, Any]) -> Message:
    return Message(content=RecordDict({SECURE: ConfigRecord(entries)}), reply_to=message)


def _reply_with_vectors(
    message: Message, vectors: Sum, metrics: dict[str, float], shared_arrays: SharedArrays | None
) -> Message:
    values, numbers = vectors
    arrays = {
        MASKED_VALUES: Array(shared_arrays.put(values) if shared_arrays else values),
        MASKED_NUMBERS: Array(numbers),
    }
    content = RecordDict({ARRAYS: ArrayRecord(arrays)})
    if metrics:
        content[METRICS] = MetricRecord(dict[str, Any](metrics))
    return Message(content=content, reply_to=message)
