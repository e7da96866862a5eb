"""How models get into messages and out of them again: packed, and in a simulation by reference."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.models.state import State
from fedbus.transport.packing import FLAT, Layout, pack, unpack
from fedbus.transport.shared_memory import SharedArrays

REFERENCE = "reference"
"""Name of the only array of a message that names its model."""


@dataclass(frozen=True)
class WeightCodec:
    """One end of a federation's wire; both ends have equal ones.

    Attributes:
        payload: as `fedbus.transport.packing.pack`.
        layout: names and shapes of the model.
        shared_arrays: where models lie that messages only name; None: messages hold them. A named model is one array,
            of the values that would have travelled.
    """

    payload: str
    layout: Layout
    shared_arrays: SharedArrays | None = None

    def pack(self, state: State) -> dict[str, NDArray[Any]]:
        """What leaves of a model, to be checked before it does."""
        return pack(state, self._packing)

    def to_message(self, packed: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        """The arrays of a message, for a packed model."""
        return {REFERENCE: self.shared_arrays.put(packed[FLAT])} if self.shared_arrays else dict(packed)

    def from_message(self, arrays: Mapping[str, NDArray[Any]]) -> State:
        """The model of a message, float32.

        Raises:
            RunError: the message holds or names no such model.
        """
        if self.shared_arrays is None:
            return unpack(arrays, self.payload, self.layout)
        if arrays.keys() != {REFERENCE}:
            raise RunError("A message of the simulation names no model.", "Run the same version of FedBUS everywhere.")
        return unpack({FLAT: self.shared_arrays.get(arrays[REFERENCE])}, self._packing, self.layout)

    def release(self) -> None:
        """Forget every model that was named: the server says so once it has read all answers."""
        if self.shared_arrays:
            self.shared_arrays.clear()

    @property
    def _packing(self) -> str:
        return "flat" if self.shared_arrays and self.payload == "dict" else self.payload
