"""What all calls of sites have in common at the gateway: the key comes first, and memory is limited."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack

from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from server.hub.signature import signing_key

PIECE_BYTES = 256 << 10
"""Of an answer, written at once."""


class SiteCall(ABC):
    """An ASGI application that answers one call of an approved site."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check the key and answer."""
        request = Request(scope, receive)
        async with AsyncExitStack() as held:  # memory for the answer, until it is sent
            try:
                response = await self._checked(request, held)
            except ClientDisconnect:
                return
            except TimeoutError:
                response = refuse(503, "The hub is busy, or this request came too slowly.")
            await response(scope, receive, send)

    async def _checked(self, request: Request, held: AsyncExitStack) -> Response:
        state = request.app.state
        # Key, time and signature come first: a stranger's body is not even read.
        site = signing_key(request.headers, state.approved_keys())
        if not site:
            return refuse_key()
        state.connections.prove(request.scope["client"], site)
        return await self.answer(request, site, held)

    @abstractmethod
    async def answer(self, request: Request, site: str, held: AsyncExitStack) -> Response:
        """Answer a call.

        Args:
            request: The call.
            site: The fingerprint of the approved key that has signed it.
            held: Keeps memory for the answer until it is sent.

        Raises:
            TimeoutError: If there is no memory for it, or its body does not arrive.
        """


def refuse(status: int, reason: str) -> Response:
    """An answer that ends the connection, so that the rest of a request is not read."""
    return PlainTextResponse(reason, status, {"connection": "close"})


def refuse_key() -> Response:
    """The answer to a key that is not approved."""
    return refuse(401, "This request is not signed with a key that is approved here.")


def refuse_size(headers: Mapping[str, str], most: int) -> Response | None:
    """Return the answer to a request without a size, or with too large a one; None if its body can be read."""
    length = headers.get("content-length")
    # A body in chunks has no size that could be checked before, whatever the other header says.
    if length is None or "transfer-encoding" in headers:
        return refuse(411, "This request has no Content-Length.")
    return refuse(413, "This request is too large.") if int(length) > most else None


def make_answer(content: bytes, status: int, headers: Mapping[str, str]) -> Response:
    """Make an answer; a long one is written in pieces, each of which waits for the one before.

    So the memory is free when the site has the answer.
    """
    if len(content) <= PIECE_BYTES:
        return Response(content, status, headers)
    return StreamingResponse(_pieces(content), status, {**headers, "content-length": str(len(content))})


async def _pieces(content: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(content), PIECE_BYTES):
        yield content[start : start + PIECE_BYTES]
