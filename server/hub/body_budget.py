"""How much memory the bodies of all requests and answers may take at one time, in total and for each site."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

SMALL_BYTES = 64 << 10
"""A body of this size is not counted: the limit of a site's connections is enough for them."""

WAIT_SECONDS = 20.0
"""How long a request waits for memory; less than the 30 s after which a SuperNode gives up on an answer."""


class BodyBudget:
    """Memory for bodies, given to one request after the other.

    Args:
        total: Bytes for all sites together.
        share: Bytes for one site; at least as large as the largest body.
    """

    def __init__(self, total: int, share: int) -> None:
        self.total, self.share = total, share
        self.held = Counter[str]()
        self.changed = asyncio.Event()

    @asynccontextmanager
    async def hold(self, site: str, size: int) -> AsyncIterator[None]:
        """Wait until there is memory for a body, and hold it within the `with` block.

        Raises:
            TimeoutError: If there is none in time.
        """
        if size <= SMALL_BYTES:
            yield
            return
        async with asyncio.timeout(WAIT_SECONDS):
            while self.held.total() + size > self.total or self.held[site] + size > self.share:
                await self.changed.wait()
        self.held[site] += size
        try:
            yield
        finally:
            self.held[site] -= size
            self.held += Counter()  # removes sites that hold nothing
            self.changed.set()
            self.changed = asyncio.Event()
