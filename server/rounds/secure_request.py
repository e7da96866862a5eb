"""What a secure sum is about, what comes of it, and how the sites are reached."""

import threading
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from flwr.serverapp import Grid

from fedbus.models.state import State
from fedbus.transport.messages import Instruction
from fedbus.transport.summed_update import Sum, SumFormat
from fedbus.transport.weights import WeightCodec
from server.rounds.messaging import Participants
from server.rounds.registration import RETRY_SECONDS, OnWait, wait_for_nodes


@dataclass(frozen=True)
class Request:
    """What the sites are asked to add up.

    Attributes:
        purpose: As in `SessionTerms`.
        instruction: What they are told.
        config: The instruction as the messages contain it.
        state: The model, as the sites receive it.
        format: What is summed.
        total_weight: The sum of the weights of all sites.
    """

    purpose: str
    instruction: Instruction
    config: Mapping[str, Any]
    state: State
    format: SumFormat
    total_weight: float = 1.0


@dataclass(frozen=True)
class Summed:
    """A sum.

    Attributes:
        total: The sums of both vectors.
        sites: The sites whose vectors are in it, sorted.
        refused: Why others are not, by site.
        epsilon: What these sites have spent of their budgets of differential privacy.
    """

    total: Sum
    sites: list[str]
    refused: dict[str, str]
    epsilon: dict[str, float | None]


@dataclass(frozen=True)
class Channel:
    """How a session reaches the sites.

    Attributes:
        grid: Flower's grid.
        participants: The sites that have registered.
        codec: Packs the model.
        timeout: Time limit of the training or evaluation in a sum, and of all attempts together, in seconds.
        stop: Set it to end early.
        on_wait: Called with a description of what the run waits for.
    """

    grid: Grid
    participants: Participants
    codec: WeightCodec
    timeout: float
    stop: threading.Event
    on_wait: OnWait

    def wait_for(self, names: Collection[str], fewest: int, deadline: float) -> bool:
        """Wait for sites that disconnected; return whether there is time left to send to them again.

        Raises:
            RunError: If too few sites are connected at the deadline.
            KeyboardInterrupt: If `stop` was set.
        """
        if not names or time.monotonic() + RETRY_SECONDS >= deadline:
            return False
        self.on_wait(f"waiting for {', '.join(sorted(names))} to reconnect")
        if self.stop.wait(RETRY_SECONDS):
            raise KeyboardInterrupt
        left = deadline - time.monotonic()
        wait_for_nodes(self.grid, fewest, fewest, self.participants, left, self.stop, self.on_wait)
        return True
