"""Between Flower's strategies and the wire: strategies see one array a parameter, whatever travels."""

from collections.abc import Collection, Iterable
from typing import cast

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.transport.messages import ARRAYS, CONFIG, Instruction
from fedbus.transport.packing import pack, unpack
from fedbus.transport.weights import WeightCodec
from server.rounds.messaging import Roster, part_of


def record_of(state: State) -> ArrayRecord:
    """A model as strategies see it."""
    return ArrayRecord({key: Array(value) for key, value in pack(state, "dict").items()})


def state_of(arrays: ArrayRecord) -> State:
    """A model as a strategy made it."""
    return unpack({key: array.numpy() for key, array in arrays.items()}, "dict", {})


def to_send(
    messages: Iterable[Message],
    state: State,
    roster: Roster,
    codec: WeightCodec,
    patience: float,
    answered: Collection[str] = (),
) -> list[Message]:
    """Pack what a strategy wants sent; the order is that of the sites' names, as Flower draws its own unseeded.

    Args:
        messages: the strategy's, one a node, all with the same model.
        state: that model.
        roster: nodes that are not in it get nothing: they never introduced themselves.
        codec: this end of the wire.
        patience: seconds until a message that was not fetched expires, so that a site that comes back late does not
            work on a round that is over.
        answered: sites that get none.
    """
    packed = _loaded(state, codec)
    known = [message for message in messages if message.metadata.dst_node_id in roster.registrations]
    known = [message for message in known if roster.name(message.metadata.dst_node_id) not in answered]
    known.sort(key=lambda message: roster.name(message.metadata.dst_node_id))
    return [
        Message(
            RecordDict({ARRAYS: packed, CONFIG: cast(ConfigRecord, part_of(message, CONFIG))}),
            message.metadata.dst_node_id,
            message.metadata.message_type,
            ttl=patience,
            group_id=message.metadata.group_id,
        )
        for message in known
    ]


def evaluation(
    instruction: Instruction, state: State, nodes: Iterable[int], codec: WeightCodec, patience: float
) -> list[Message]:
    """Ask nodes to score a model."""
    content = RecordDict({ARRAYS: _loaded(state, codec), CONFIG: ConfigRecord(instruction.to_config())})
    return [Message(content, node, MessageType.EVALUATE, ttl=patience) for node in nodes]


def _loaded(state: State, codec: WeightCodec) -> ArrayRecord:
    return ArrayRecord({key: Array(value) for key, value in codec.to_message(codec.pack(state)).items()})


def update_of(reply: Message, codec: WeightCodec) -> State:
    """Unpack the model that a site sent back.

    Raises:
        RunError: it is packed in another way or has another size.
    """
    arrays = cast(ArrayRecord, part_of(reply, ARRAYS))
    try:
        return codec.from_message({key: array.numpy() for key, array in arrays.items()})
    except RunError:
        raise
    except Exception as error:  # damaged bytes break NumPy in any way: AttributeError, MemoryError, BadZipFile and more
        raise RunError(
            f"Its arrays can't be read ({type(error).__name__}).", "Run the same version of FedBUS everywhere."
        ) from error


def for_strategy(reply: Message, update: State) -> Message:
    """A reply as the strategy expects it, with one array a parameter."""
    reply.content[ARRAYS] = record_of(update)
    return reply
