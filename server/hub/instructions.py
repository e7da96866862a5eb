"""Hold a site's question for instructions until there is one, so that sites need not ask every few seconds.

The SuperLink writes the number of a node to a pipe when an instruction for it is complete; the gateway reads them.
"""

import asyncio
import os
from collections import Counter, defaultdict
from contextlib import suppress

from server.hub.link_state import NODE_BYTES

HOLD_SECONDS = 10.0
"""How long a question is held. A SuperNode waits 30 s for an answer, and a connection that broke without notice is
found after this time at the latest."""

EVERYONE = 0
"""In place of a node's number: the hub is ending, and nothing is held any more."""


class Pipe:
    """The pipe from the SuperLink to the gateway; a context manager that closes it.

    Attributes:
        read_end: For the gateway.
        write_end: For the SuperLink's process, which inherits it. Full pipes are not waited for.
    """

    def __init__(self) -> None:
        self.read_end, self.write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        os.set_blocking(self.write_end, False)

    def __enter__(self) -> "Pipe":
        return self

    def __exit__(self, *exception: object) -> None:
        os.close(self.read_end)
        os.close(self.write_end)

    def release_everyone(self) -> None:
        """Have the gateway answer all questions that it holds."""
        with suppress(BlockingIOError):  # the pipe is full, because the gateway has ended; nothing is held any more
            os.write(self.write_end, EVERYONE.to_bytes(NODE_BYTES, "big"))


class Instructions:
    """What the gateway knows of new instructions, in its event loop.

    Args:
        pipe: File descriptor to read the numbers of nodes from; None: no question is held.
    """

    def __init__(self, pipe: int | None) -> None:
        self.pipe, self.ending = pipe, pipe is None
        self.arrived = Counter[int]()
        self.changed = defaultdict[int, asyncio.Event](asyncio.Event)

    def open(self) -> None:
        """Start to read, in the running event loop."""
        if self.pipe is not None:
            asyncio.get_running_loop().add_reader(self.pipe, self._read, self.pipe)

    def close(self) -> None:
        """Stop to read."""
        if self.pipe is not None:
            asyncio.get_running_loop().remove_reader(self.pipe)

    def count(self, node: int) -> int:
        """Return how many instructions for a node have been complete since the hub's start."""
        return self.arrived[node]

    async def wait(self, node: int, known: int) -> None:
        """Wait until there is another instruction for a node, at most `HOLD_SECONDS`.

        Args:
            node: The node.
            known: The node's `count` before the SuperLink was asked: one that came since then is not missed.
        """
        if self.ending or self.count(node) != known:
            return
        event = self.changed[node]
        try:
            async with asyncio.timeout(HOLD_SECONDS):
                await event.wait()
        except TimeoutError:
            return

    def _read(self, pipe: int) -> None:
        numbers = os.read(pipe, NODE_BYTES << 10)
        for start in range(0, len(numbers), NODE_BYTES):
            node = int.from_bytes(numbers[start : start + NODE_BYTES], "big")
            self.ending = self.ending or node == EVERYONE
            self.arrived[node] += 1
            for each in list(self.changed) if node == EVERYONE else (node,):
                self.changed.pop(each, asyncio.Event()).set()
