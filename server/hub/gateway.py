"""The gateway: the part of the hub that a site can reach.

Flower's SuperLink serves sites, operators and its own workers on one port and does not authenticate operators: anyone
who reaches that port can start a run, which is code at every site. So the SuperLink listens only on this machine, and
sites connect to the gateway, which forwards the calls of an approved site's SuperNode and answers nothing else.
"""

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fedbus.errors import RunError
from fedbus.transport.stored_arrays import PATH
from server.flower_internals import PullMessagesRequest, PushMessagesRequest
from server.hub.array_files import ArrayFiles
from server.hub.arrays_call import BODY_SECONDS, ArraysCall
from server.hub.body_budget import SMALL_BYTES, BodyBudget
from server.hub.connections import Connections
from server.hub.instructions import Instructions
from server.hub.site_call import SiteCall, make_answer, refuse, refuse_key, refuse_size

FLEET_CALLS = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages",
    "get-run", "get-fab", "push-object", "pull-object", "confirm-message-received",
)  # fmt: skip
"""The calls of a SuperNode; not among them: to register or unregister a node, which is the operator's decision."""

ASK = "/pull-messages"
"""The end of the path at which a site asks for instructions."""

MAX_BODY_BYTES = 16 << 20
"""Of one request; Flower splits arrays into chunks of 5 MB."""

BODIES_BYTES, BODIES_BYTES_PER_SITE = 256 << 20, 48 << 20
"""Of all requests and answers that are in memory at one time."""

FORWARDED_HEADERS = frozenset(
    {
        "content-type", "accept", "flwr-public-key", "flwr-signature", "flwr-timestamp",
        "flwr-package-name", "flwr-package-version", "flwr-component-name",
    }
)  # fmt: skip
"""In both directions; the token of a SuperLink's own worker is not among them."""

UPSTREAM_TIMEOUT_SECONDS = 60.0

GetApprovedKeys = Callable[[], Collection[str]]
"""Returns the fingerprints of the keys that are approved now."""


def make_gateway(
    superlink: str, ca_certificate: Path, approved_keys: GetApprovedKeys, arrays: Path, pipe: int | None = None
) -> Starlette:
    """Make the web application to which sites connect.

    Args:
        superlink: HOST:PORT of the SuperLink on this machine.
        ca_certificate: Verifies the certificate of the SuperLink.
        approved_keys: Called for every request, so that revoking a key takes effect at once.
        arrays: Folder of the arrays that runs and sites exchange.
        pipe: As in `Instructions`.

    Returns:
        The application; its `state.connections` is for the server that runs it.
    """
    context = ssl.create_default_context(cafile=str(ca_certificate))

    @asynccontextmanager
    async def open_client(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=f"https://{superlink}", verify=context, timeout=UPSTREAM_TIMEOUT_SECONDS, limits=limits,
            trust_env=False,  # never through a proxy
        ) as client:  # fmt: skip
            app.state.client, app.state.approved_keys = client, approved_keys
            app.state.budget = BodyBudget(BODIES_BYTES, BODIES_BYTES_PER_SITE)
            app.state.instructions = Instructions(pipe)
            app.state.instructions.open()
            yield
            app.state.instructions.close()

    routes = [Route(f"/v1/fleet/{call}", _FleetCall(), methods=["POST"]) for call in FLEET_CALLS]
    arrays_call = ArraysCall(ArrayFiles(arrays))
    routes.append(Route(f"{PATH}/{{exchange}}/{{digest}}", arrays_call, methods=["GET", "PUT"]))
    errors = {HTTPException: _refuse_error, RunError: _refuse_error}
    gateway = Starlette(routes=routes, lifespan=open_client, exception_handlers=errors)
    gateway.state.connections = Connections()
    gateway.router.redirect_slashes = False  # a path with a trailing slash is unknown, like any other path
    return gateway


class _FleetCall(SiteCall):
    """Forwards one call of a SuperNode."""

    async def answer(self, request: Request, site: str, held: AsyncExitStack) -> Response:
        """Forward a call; a question for instructions is held while there is none."""
        state = request.app.state
        path: str = request.scope["path"]  # the path that was routed; `request.url` depends on the Host header
        # A question is held beyond the budget below, and must be as small as what that does not count.
        if refusal := refuse_size(request.headers, SMALL_BYTES if path.endswith(ASK) else MAX_BODY_BYTES):
            return refusal
        async with state.budget.hold(site, int(request.headers["content-length"])):
            async with asyncio.timeout(BODY_SECONDS):
                body = await request.body()
            if path.endswith("/push-messages") and not _are_own_replies(body):
                return refuse(403, "A site may only send its own replies.")
            node = _asking_node(body) if path.endswith(ASK) else 0
            known = state.instructions.count(node)
            answer = await _send(request, body)
        response = await _read_answer(answer, state.budget, site, held)
        if not node or response.status_code != 200 or response.headers["content-length"] != "0":
            return response
        # There is no instruction: answer when there is one, or after a while.
        await state.instructions.wait(node, known)
        # It is given out once: not to a site that has hung up, nor to one that has been revoked in the meantime.
        if await request.is_disconnected() or site not in state.approved_keys():
            return refuse_key()
        return await _read_answer(await _send(request, body), state.budget, site, held)


async def _send(request: Request, body: bytes) -> httpx.Response | None:
    """Call the SuperLink; None if it is starting or has ended."""
    # As bytes, so that any value passes unchanged. Of repeated headers the first, whose key was checked before.
    passed = FORWARDED_HEADERS & set(request.headers)
    headers = {key.encode(): request.headers[key].encode("latin-1") for key in passed}
    client: httpx.AsyncClient = request.app.state.client
    call = client.build_request("POST", request.scope["path"], content=body, headers=headers)
    try:
        return await client.send(call, stream=True)
    except httpx.TransportError:
        return None


async def _read_answer(answer: httpx.Response | None, budget: BodyBudget, site: str, held: AsyncExitStack) -> Response:
    if answer is None:
        return refuse(503, "The hub is not ready.")  # a SuperNode tries again
    try:
        size = int(answer.headers.get("content-length", MAX_BODY_BYTES))
        await held.enter_async_context(budget.hold(site, min(size, MAX_BODY_BYTES)))
        content = await answer.aread()
    except httpx.TransportError:
        return refuse(503, "The hub is not ready.")
    finally:
        await answer.aclose()
    kept = {key: value for key, value in answer.headers.items() if key in FORWARDED_HEADERS}
    return make_answer(content, answer.status_code, kept)


def _refuse_error(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return refuse(error.status_code, error.detail)
    # The list of approved sites can't be read.
    logging.getLogger("uvicorn.error").error("%s", error)
    return refuse(503, "The hub is not ready.")


def _asking_node(body: bytes) -> int:
    """The node that asks for instructions; 0 if the question is damaged, which the SuperLink refuses."""
    try:
        return int(PullMessagesRequest.FromString(body).node.node_id)
    except DecodeError:
        return 0


def _are_own_replies(body: bytes) -> bool:
    """Whether all messages are replies of the node that the SuperLink will authenticate.

    The SuperLink itself accepts a message from any registered node to any other, which would be an instruction.
    """
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    return all(
        message.metadata.src_node_id == request.node.node_id and message.metadata.reply_to_message_id
        for message in request.messages_list
    )
