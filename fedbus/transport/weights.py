"""How models are put into messages and read from them: packed, and in a simulation by reference."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fedbus.models.state import State
from fedbus.transport.half_precision import HALF, add_differences, to_differences
from fedbus.transport.packing import FLAT, Layout, pack, unpack
from fedbus.transport.shared_memory import SharedArrays, no_reference

REFERENCE = "reference"
"""Name of the only array of a message that refers to its model."""


@dataclass(frozen=True)
class WeightCodec:
    """Packs and unpacks the models of a federation; server and sites use equal ones.

    Attributes:
        payload: As in `fedbus.transport.packing.pack`.
        layout: The names and shapes of the model.
        shared_arrays: Where models are stored that messages only refer to; None if messages contain them. A stored
            model is one array of the values that would have been sent.
    """

    payload: str
    layout: Layout
    shared_arrays: SharedArrays | None = None

    def pack(self, state: State) -> dict[str, NDArray[Any]]:
        """Return the arrays of a model that the hub sends."""
        joined_later = self.shared_arrays and self.payload == "flat"
        return pack(state, "dict" if joined_later else self.payload)

    def pack_update(self, update: State, received: State) -> dict[str, NDArray[Any]]:
        """Return the arrays that leave a site, so that they can be checked first.

        Args:
            update: The model that it has trained.
            received: The model that it received.
        """
        return self.pack(to_differences(update, received) if self.payload == HALF else update)

    def to_message(self, packed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """Return the arrays of a message with a packed model."""
        if self.shared_arrays is None:
            return dict(packed)
        return {REFERENCE: self.shared_arrays.put_joined(packed.values())}

    def from_message(self, arrays: Mapping[str, NDArray[Any]]) -> State:
        """Return the model of a message as float32.

        Raises:
            RunError: If the message does not contain or refer to such a model.
        """
        return self._read(arrays, SharedArrays.get)

    def read_update(self, arrays: Mapping[str, NDArray[Any]], before: State) -> State:
        """Return the update of a message as float32.

        Args:
            arrays: The arrays of the message.
            before: The model of the hub, in full precision, from which the sites have trained.

        Raises:
            RunError: As `from_message`.
        """
        found = self._read(arrays, SharedArrays.take)
        return add_differences(before, found) if self.payload == HALF else found

    def _read(self, arrays: Mapping[str, NDArray[Any]], read: Callable[..., NDArray[Any]]) -> State:
        if self.shared_arrays is None:
            return unpack(arrays, self.payload, self.layout)
        if arrays.keys() != {REFERENCE}:
            raise no_reference()
        stored_as = "flat" if self.payload == "dict" else self.payload
        return unpack({FLAT: read(self.shared_arrays, arrays[REFERENCE])}, stored_as, self.layout)

    def release(self) -> None:
        """Delete the stored models that no reply was read from; the server calls this when it has read all replies."""
        if self.shared_arrays:
            self.shared_arrays.clear()
