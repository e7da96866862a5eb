"""Between models and Flower's messages: what travels is packed, what strategies see is one array per parameter."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import Any, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, MetricRecord, RecordDict
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.transport.array_bytes import check_array_bytes
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS, ROUND, SEEN, Instruction
from fedbus.transport.packing import pack, unpack
from fedbus.transport.report import Report
from fedbus.transport.weights import WeightCodec
from server.rounds.messaging import Participants, read_record

MAX_STRATEGY_LOSS = 28.0
"""q-FedAvg weighs sites by their training loss: one that claims a huge loss must not own the average."""


class InMemoryArray(Array):
    """An array for strategies, which is not serialised and so can't be sent.

    Args:
        values: The values.
        copied: Whether `numpy` returns a copy, as Flower's own arrays do, for strategies that write to it.
    """

    def __init__(self, values: NDArray[Any], copied: bool) -> None:
        super().__init__(str(values.dtype), tuple(values.shape), "numpy.ndarray", b"")
        self.values, self.copied = values, copied

    def numpy(self) -> NDArray[Any]:
        """Return a copy, or the values themselves, read-only."""
        if self.copied:
            return self.values.copy()
        shared = self.values.view()
        shared.flags.writeable = False
        return shared


def to_array_record(state: State, copied: bool = False) -> ArrayRecord:
    """Return a model in the form that strategies read; see `InMemoryArray`."""
    record = ArrayRecord()
    for name, values in pack(state, "dict").items():
        record[name] = InMemoryArray(values, copied)  # the constructor would copy it as an Array
    return record


def from_array_record(record: ArrayRecord) -> State:
    """Return the model that a strategy made."""
    return unpack({name: array.numpy() for name, array in record.items()}, "dict", {})


def training_messages(
    planned: Iterable[Message],
    state: State,
    participants: Participants,
    codec: WeightCodec,
    timeout: float,
    excluded: Collection[str] = (),
) -> list[Message]:
    """Make the messages of a training round from those that a strategy planned, with the packed model in them.

    They are sorted by site, because Flower samples the nodes in an unseeded order.

    Args:
        planned: The strategy's messages, one per node.
        state: The model.
        participants: The sites; nodes that have not registered get no message.
        codec: Packs the model.
        timeout: Seconds after which a message that was not fetched expires, so that a site that connects late does not
            work on a round that has ended.
        excluded: Sites that get no message.
    """
    arrays = _packed_arrays(state, codec)
    registered = [message for message in planned if message.metadata.dst_node_id in participants.registrations]
    by_site = {participants.name(message.metadata.dst_node_id): message for message in registered}
    return [
        Message(
            RecordDict({ARRAYS: arrays, CONFIG: cast(ConfigRecord, read_record(message, CONFIG))}),
            message.metadata.dst_node_id,
            message.metadata.message_type,
            ttl=timeout,
            group_id=message.metadata.group_id,
        )
        for site, message in sorted(by_site.items())
        if site not in excluded
    ]


def evaluation_messages(
    instruction: Instruction,
    state: State,
    nodes: Iterable[int],
    codec: WeightCodec,
    timeout: float,
    seen: NDArray[np.uint8] | None = None,
    informed: Collection[int] = (),
) -> list[Message]:
    """Make messages that ask nodes to score a model, as `training_messages`.

    Args:
        instruction: What to score it on.
        state: The model.
        nodes: The nodes.
        codec: Packs the model.
        timeout: As `training_messages`.
        seen: uint8 [N, 32], hashes of the images that a given model was trained or chosen on, if they are known.
        informed: Nodes whose sites have the model, and do not receive it again.
    """
    config = ConfigRecord(instruction.to_config() | {ROUND: instruction.round})  # a strategy adds it to a training
    recipients, short = list(nodes), RecordDict({CONFIG: config})
    whole = short
    if set(recipients) - set(informed):
        whole = RecordDict({ARRAYS: _packed_arrays(state, codec), CONFIG: config})
        if seen is not None:
            whole[SEEN] = ArrayRecord({SEEN: Array(seen)})
    return [
        Message(short if node in informed else whole, node, MessageType.EVALUATE, ttl=timeout) for node in recipients
    ]


def _packed_arrays(state: State, codec: WeightCodec) -> ArrayRecord:
    return ArrayRecord({name: Array(values) for name, values in codec.to_message(codec.pack(state)).items()})


def read_update(reply: Message, codec: WeightCodec, before: State) -> State:
    """Unpack the update that a site sent back.

    Args:
        reply: The site's message.
        codec: Unpacks the update.
        before: The model that was sent, in full precision.

    Raises:
        RunError: If it is packed in another way, has another size or is damaged.
    """
    arrays = cast(ArrayRecord, read_record(reply, ARRAYS))
    try:
        check_array_bytes({name: array.data for name, array in arrays.items()}, codec.layout)
        return codec.read_update({name: array.numpy() for name, array in arrays.items()}, before)
    except RunError:
        raise
    except Exception as error:  # damaged bytes make NumPy raise anything: AttributeError, MemoryError, BadZipFile, ...
        raise RunError(
            f"Its arrays can't be read ({type(error).__name__}).", "Run the same version of FedBUS everywhere."
        ) from error


def strategy_reply(reply: Message, update: State, report: Report, copied: bool = False) -> Message:
    """Replace the content of a reply with what was checked, for the strategy: the unpacked model and the report.

    Nothing else of the reply is left: Flower ends a run in which one reply has another record or another number.
    """
    numbers = replace(report, loss=min(report.loss, MAX_STRATEGY_LOSS)).to_metrics()
    reply.content = RecordDict({ARRAYS: to_array_record(update, copied), METRICS: MetricRecord(numbers)})
    return reply
