"""The pauses of a SuperNode, shortened where it waits for this site's own worker and not for the hub."""

import time

EMPTY_SECONDS = 3.0
"""At most one question for instructions in this time. The gateway holds a question for longer than that while there is
no instruction, so that a site of an idle hub does not pause at all between two of them."""

WORKER_SECONDS = 0.02
"""Between two looks at whether the worker's reply, or its next part, is there."""


class Pauses:
    """Replaces `time.sleep` in Flower's loop, which pauses 3 s after an empty answer and 0.5 s for its worker."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def __call__(self, seconds: float) -> None:
        """Pause where Flower pauses."""
        if seconds < EMPTY_SECONDS:
            time.sleep(min(seconds, WORKER_SECONDS))
            return
        time.sleep(max(0.0, self.last + EMPTY_SECONDS - time.monotonic()))
        self.last = time.monotonic()
