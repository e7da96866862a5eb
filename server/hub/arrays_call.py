"""The gateway's calls for the arrays of messages: a site reads those of a run, and writes its own."""

import asyncio
import logging
from contextlib import AsyncExitStack

from starlette.requests import Request
from starlette.responses import Response

from fedbus.transport.stored_arrays import PIECE_BYTES
from server.hub.array_files import ArrayFiles, NotExpectedError
from server.hub.site_call import SiteCall, make_answer, refuse, refuse_size

BODY_SECONDS = 240.0
"""Until a body has arrived; less than the 305 s after which the SuperLink considers its signature too old."""

BYTES = {"content-type": "application/octet-stream"}


class ArraysCall(SiteCall):
    """Reads (GET) or writes (PUT) a piece of a file, in a thread: a slow disk delays nobody else.

    Args:
        files: The files of all running runs.
    """

    def __init__(self, files: ArrayFiles) -> None:
        self.files = files

    async def answer(self, request: Request, site: str, held: AsyncExitStack) -> Response:
        """Answer a call of a site."""
        exchange, digest = request.path_params["exchange"], request.path_params["digest"]
        offset = request.query_params.get("offset", "")
        if not (offset.isascii() and offset.isdigit() and len(offset) < 16):
            return refuse(400, "This request has no offset.")
        try:
            if request.method == "PUT":
                return await self._write(request, site, exchange, digest, int(offset))
            await held.enter_async_context(request.app.state.budget.hold(site, PIECE_BYTES))
            piece = await asyncio.to_thread(self.files.read, exchange, digest, int(offset))
            return make_answer(piece, 200, BYTES)
        except (NotExpectedError, FileNotFoundError):  # the second, if the run has just ended
            return refuse(404, "No run has or expects these arrays.")
        except TimeoutError:  # an OSError, too
            raise
        except OSError as error:
            logging.getLogger("uvicorn.error").error("The arrays of a message can't be read or written: %s", error)
            return refuse(503, "The hub is busy.")  # the site tries again

    async def _write(self, request: Request, site: str, exchange: str, digest: str, offset: int) -> Response:
        if refusal := refuse_size(request.headers, PIECE_BYTES):
            return refusal
        async with request.app.state.budget.hold(site, int(request.headers["content-length"])):
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.body()
            await asyncio.to_thread(self.files.write, site, exchange, digest, offset, body)
        return Response()
