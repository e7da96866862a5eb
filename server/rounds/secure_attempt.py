"""One session of a secure sum: the hub passes four messages on, and learns the sum of what the sites add.

The steps are in `fedbus.transport.secure_records`, the protocol in `fedbus.secure_aggregation`.
"""

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from numpy.typing import NDArray

from fedbus.deployment.roster import read_roster
from fedbus.errors import FedbusError, RunError
from fedbus.secure_aggregation.hub_session import HubSession
from fedbus.secure_aggregation.terms import (
    TRAIN,
    SessionTerms,
    digest_of_arrays,
    digest_of_instruction,
    digest_of_layout,
)
from fedbus.transport.array_bytes import ARRAY_OVERHEAD, check_array_bytes
from fedbus.transport.messages import ARRAYS, CONFIG, METRICS
from fedbus.transport.report import EPSILON
from fedbus.transport.secure_records import (
    KEYS,
    KEYS_ACTION,
    MASKED_ACTION,
    MASKED_NUMBERS,
    MASKED_VALUES,
    NAMES,
    SEALED,
    SECURE,
    SESSION,
    SHARES,
    SHARES_ACTION,
    TERMS,
    UNMASK_ACTION,
    read_by_name,
    read_bytes,
    write_by_name,
)
from fedbus.transport.summed_update import Sum
from server.rounds.epsilon import epsilon_fault
from server.rounds.messaging import Replies, read_metrics, read_record, send_and_receive
from server.rounds.secure_request import Channel, Request, Summed

STEP_SECONDS = 300.0
"""The longest time for a step without training; a site that is connected answers within seconds."""

Part = TypeVar("Part")


class Attempt:
    """One session.

    Args:
        channel: How it reaches the sites.
        request: What is summed.
        quorum: How many sites the sum needs, in addition to what the protocol needs.
        deadline: Until when a site that disconnected may answer the last step, of `time.monotonic`.

    Attributes:
        disconnected: The sites that disconnected.
        survivors: The sites that were asked to unmask; sites never unmask the sum of others in this round.
    """

    def __init__(self, channel: Channel, request: Request, quorum: int, deadline: float) -> None:
        self.channel, self.request, self.deadline = channel, request, deadline
        self.disconnected: set[str] = set()
        self.survivors: list[str] = []
        self.epsilon: dict[str, float] = {}
        instruction, wanted = request.instruction, request.format
        terms = SessionTerms(
            session=secrets.token_hex(16),
            title=instruction.title,
            run=instruction.run,
            arm=instruction.arm,
            round=int(instruction.round),
            purpose=request.purpose,
            instruction=digest_of_instruction(request.config),
            model=digest_of_arrays({name: value.numpy() for name, value in request.state.items()}),
            total_weight=request.total_weight,
            update_range=instruction.settings.update_range,
            layout=digest_of_layout(wanted.tensors, wanted.numbers),
            roster=read_roster(instruction.sites),
        )
        self.session = HubSession(terms, wanted.size, quorum)
        self.session.refused |= channel.participants.failures

    def run(self) -> Summed:
        """Run the four steps."""
        session, step = self.session, {SESSION: self.session.terms.session}
        keys = session.take_keys(
            self._ask(MessageType.QUERY, KEYS_ACTION, self._connected(), lambda _: {TERMS: session.terms.to_bytes()},
                      lambda record: read_bytes(record, KEYS))
        )  # fmt: skip
        to_all = step | write_by_name(KEYS, keys)
        sealed = session.take_shares(
            self._ask(MessageType.QUERY, SHARES_ACTION, list(keys), lambda _: to_all,
                      lambda record: read_by_name(record, SEALED))
        )  # fmt: skip
        self._collect_vectors({name: step | write_by_name(SEALED, parts) for name, parts in sealed.items()})
        self.survivors = session.survivors()
        total = self._unmask(step | {NAMES: self.survivors})
        refused = {name: why for name, why in session.refused.items() if name not in self.survivors}
        return Summed(total, self.survivors, refused, {name: self.epsilon.get(name) for name in self.survivors})

    def _unmask(self, entries: Mapping[str, Any]) -> Sum:
        """Have the survivors reveal what removes the masks; those that disconnect may answer until the deadline."""
        answers: dict[str, bytes] = {}
        while True:
            self.disconnected.clear()
            names = [name for name in self.survivors if name not in answers]
            answers |= self._ask(MessageType.QUERY, UNMASK_ACTION, names, lambda _: entries,
                                 lambda record: read_bytes(record, SHARES))  # fmt: skip
            try:
                return self.session.unmask(answers)
            except RunError:
                if not self.channel.wait_for(self.disconnected, self.session.terms.fewest, self.deadline):
                    raise

    def _connected(self) -> list[str]:
        """Return the sites that are connected, and note the others."""
        participants, online = self.channel.participants, set(self.channel.grid.get_node_ids())
        found = {registration.site: node in online for node, registration in participants.registrations.items()}
        for name in self.session.terms.roster:
            if not found.get(name):
                self.session.refused.setdefault(name, "not connected")
                if name in found:
                    self.disconnected.add(name)
        return sorted(name for name, is_online in found.items() if is_online)

    def _collect_vectors(self, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Have the sites train or evaluate, and add their masked vectors."""
        packed = self.channel.codec.to_message(self.channel.codec.pack(self.request.state))
        model = ArrayRecord({name: Array(values) for name, values in packed.items()})
        kind = MessageType.TRAIN if self.request.purpose == TRAIN else MessageType.EVALUATE
        replies = self._send(kind, MASKED_ACTION, list(entries), lambda name: entries[name], model)
        for name in sorted(replies.messages):
            reply = replies.messages.pop(name)
            try:
                if self.request.purpose == TRAIN:
                    self._read_epsilon(name, reply)
                self.session.add(name, *self._read_vectors(reply))
            except FedbusError as error:
                self.session.refused[name] = str(error)

    def _read_epsilon(self, name: str, reply: Message) -> None:
        """Note what a site has spent of its budget of differential privacy.

        Raises:
            RunError: If it is more than the settings allow, or a site does not say.
        """
        spent = read_metrics(reply).get(EPSILON) if METRICS in reply.content else None
        epsilon = float(spent) if isinstance(spent, int | float) else None
        fault = epsilon_fault(epsilon, self.request.instruction.settings)
        if fault:
            raise RunError(f"Its update can't be used: {fault}.", "Install the same version of FedBUS there.")
        if epsilon is not None:
            self.epsilon[name] = epsilon

    def _read_vectors(self, reply: Message) -> tuple[NDArray[np.uint32], NDArray[np.uint64]]:
        record, shared = cast(ArrayRecord, read_record(reply, ARRAYS)), self.channel.codec.shared_arrays
        if record.keys() != {MASKED_VALUES, MASKED_NUMBERS}:
            raise RunError("Its reply has no masked vectors.", "Run the same version of FedBUS everywhere.")
        values, numbers = self.request.format.size
        try:
            # In steps of four bytes; the reference to an array in shared memory is shorter than any model.
            check_array_bytes({key: array.data for key, array in record.items()}, {"": (values + 2 * numbers + 64,)})
            found = [record[key].numpy() for key in (MASKED_VALUES, MASKED_NUMBERS)]
        except RunError:
            raise
        except Exception as error:  # damaged bytes make NumPy raise anything
            raise RunError(
                f"Its arrays can't be read ({type(error).__name__}).", "Run the same version of FedBUS everywhere."
            ) from error
        return shared.get(found[0]) if shared else found[0], found[1]

    def _ask(
        self,
        kind: str,
        action: str,
        names: Sequence[str],
        entries: Callable[[str], Mapping[str, Any]],
        read: Callable[[Mapping[str, Any]], Part],
    ) -> dict[str, Part]:
        """Send a step without a model, and read the replies; a site whose reply is malformed is left out by name."""
        found = {}
        for name, reply in self._send(kind, action, names, entries).messages.items():
            try:
                found[name] = read(cast(ConfigRecord, read_record(reply, SECURE)))
            except FedbusError as error:
                self.session.refused[name] = str(error)
        return found

    def _send(
        self,
        kind: str,
        action: str,
        names: Sequence[str],
        entries: Callable[[str], Mapping[str, Any]],
        model: ArrayRecord | None = None,
    ) -> Replies:
        """Send one step to sites, and note why some do not reply."""
        channel, timeout = self.channel, self.channel.timeout
        if model is None:
            timeout = min(timeout, STEP_SECONDS)
        messages = []
        for name, node in zip(names, channel.participants.nodes(names), strict=True):
            content = RecordDict(
                {CONFIG: ConfigRecord(dict(self.request.config)), SECURE: ConfigRecord(dict(entries(name)))}
            )
            if model is not None:
                content[ARRAYS] = model
            messages.append(Message(content, node, f"{kind}.{action}", ttl=timeout))
        values, numbers = self.request.format.size
        array_bytes = 0 if model is None else 4 * values + 8 * numbers + 2 * ARRAY_OVERHEAD
        replies = send_and_receive(channel.grid, messages, channel.participants, timeout, channel.stop, array_bytes)
        self.session.refused |= replies.failures
        self.disconnected |= set(replies.disconnected)
        return replies
