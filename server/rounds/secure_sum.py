"""Secure sums over the sites of a federated training, each repeated with fresh keys while too few sites are left.

Repeated is what fails before the sites have been asked to unmask. After that they unmask no other sum of the round, so
the same session waits for their answers.
"""

import time
from dataclasses import dataclass

from fedbus.errors import RunError
from server.rounds.secure_attempt import Attempt
from server.rounds.secure_request import Channel, Request, Summed


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
