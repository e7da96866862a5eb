"""Secure sums over the sites of a federated training, each repeated with fresh keys while too few sites are left.

Repeated is what fails before the sites have been asked to unmask. After that they unmask no other sum of the round, so
the same session waits for their answers.
"""

import time
from dataclasses import dataclass

<<<<<<< HEAD
from fedbus.errors import RunError
from server.rounds.secure_attempt import Attempt
from server.rounds.secure_request import Channel, Request, Summed
=======
import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from flwr.serverapp import Grid
from numpy.typing import NDArray

from fedbus.deployment.roster import read_roster
from fedbus.errors import FedbusError, RunError
from fedbus.models.state import State
from fedbus.secure_aggregation.hub_session import HubSession
from fedbus.secure_aggregation.terms import (
    TRAIN,
    SessionTerms,
    digest_of_arrays,
    digest_of_instruction,
    digest_of_layout,
)
from fedbus.transport.array_bytes import ARRAY_OVERHEAD, check_array_bytes
from fedbus.transport.messages import ARRAYS, CONFIG, Instruction
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
from fedbus.transport.summed_update import Sum, SumFormat
from fedbus.transport.weights import WeightCodec
from server.rounds.inbox import NUMBERS_ONLY, ReplyLimits
from server.rounds.messaging import Participants, Replies, read_record, send_and_receive
from server.rounds.registration import RETRY_SECONDS, OnWait, wait_for_nodes

STEP_SECONDS = 300.0
"""The longest time for a step without training; a site that is connected answers within seconds."""

Part = TypeVar("Part")


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
    """A sum, the sites whose vectors are in it, and why others are not."""

    total: Sum
    sites: list[str]
    refused: dict[str, str]
>>>>>>> a24baab (What a site has released stays on record whatever a hub calls the run, and a hub refuses impossible sums)


@dataclass(frozen=True)
class SecureSums:
    """Makes secure sums over the sites of one federated training.

    Attributes:
        channel: How the sites are reached.
        quorum: How many sites a sum needs, in addition to what the protocol needs.
    """

    channel: Channel
    quorum: int

    def run(self, request: Request) -> Summed:
        """Make a sum.

        Raises:
            RunError: If too few sites are left at the time limit; it names the others and the reasons.
            KeyboardInterrupt: If the run was stopped.
        """
        deadline = time.monotonic() + self.channel.timeout
        while True:
            attempt = Attempt(self.channel, request, self.quorum, deadline)
            try:
                return attempt.run()
            except RunError:
                if attempt.survivors or not self.channel.wait_for(attempt.disconnected, self.quorum, deadline):
                    raise
            finally:
                self.channel.codec.release()
