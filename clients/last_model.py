"""The model of a site's last evaluation, which the hub does not send again for the next one."""

from collections.abc import Callable
from dataclasses import dataclass, field

from flwr.app import Message

from fedbus.errors import RunError
from fedbus.models.state import State, state_digest
from fedbus.transport.messages import ARRAYS, Instruction


@dataclass
class LastModel:
    """At the end of a training, a deployed site evaluates the same model up to four times and receives it once.

    It is only in memory, until the next training: a site that has been restarted receives the whole model.
    """

    digest: str = ""
    state: State = field(default_factory=dict)

    def read(self, message: Message, instruction: Instruction, read_state: Callable[[], State]) -> State | None:
        """Return the model that a message is about; None if the message has no model and the site another one.

        Args:
            message: The message.
            instruction: Its instruction.
            read_state: Reads the model in the message.

        Raises:
            RunError: If the message has another model than its instruction names.
        """
        if ARRAYS not in message.content:
            return self.state if instruction.model and instruction.model == self.digest else None
        state = read_state()
        if instruction.model:
            digest = state_digest(state)
            if digest != instruction.model:
                raise RunError(
                    "The hub's message has another model than its instruction names.",
                    "Run the same version of FedBUS everywhere.",
                )
            self.digest, self.state = digest, state
        return state

    def forget(self) -> None:
        """Free the memory of the model."""
        self.digest, self.state = "", {}
