"""The gate: what of the hub a site can reach.

Flower's SuperLink answers sites, operators and its own workers on one port, and asks operators for no key: whoever
reaches that port can start a run, which is code at every hospital. So it listens on this machine only, and the gate
stands where sites connect: it passes on the calls of an approved site's SuperNode, and knows nothing else.
"""

import base64
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from functools import lru_cache
from pathlib import Path

import httpx
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from google.protobuf.message import DecodeError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from fedbus.deployment.keys import fingerprint_of
from server.flower_internals import PushMessagesRequest

FLEET_CALLS = (
    "activate-node", "deactivate-node", "send-node-heartbeat", "pull-messages", "push-messages",
    "get-run", "get-fab", "push-object", "pull-object", "confirm-message-received",
)  # fmt: skip
"""What a SuperNode asks a SuperLink; not among them: to register itself or another."""

MOST_BYTES = 16 << 20
"""A request's size: Flower cuts arrays into chunks of 5 MB."""

PASSED_ON = frozenset(
    {
        "content-type", "accept", "flwr-public-key", "flwr-signature", "flwr-timestamp",
        "flwr-package-name", "flwr-package-version", "flwr-component-name",
    }
)  # fmt: skip
"""Headers that go through; the token of a SuperLink's own worker is not among them."""

UPSTREAM_SECONDS = 60.0

Approved = Callable[[], Collection[str]]
"""Gives the fingerprints of the keys that are let in now."""


def make_gateway(superlink: str, authority: Path, approved: Approved) -> Starlette:
    """Build the application that listens where sites connect.

    Args:
        superlink: host:port of the SuperLink on this machine.
        authority: the certificate that its own is checked with.
        approved: asked at every call, so that revoking a key takes effect at once.
    """
    context = ssl.create_default_context(cafile=str(authority))

    @asynccontextmanager
    async def open_client(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=f"https://{superlink}", verify=context, timeout=UPSTREAM_SECONDS, limits=limits
        ) as client:
            app.state.client, app.state.approved = client, approved
            yield

    routes = [Route(f"/v1/fleet/{call}", _pass_on, methods=["POST"]) for call in FLEET_CALLS]
    gateway = Starlette(routes=routes, lifespan=open_client)
    gateway.router.redirect_slashes = False  # a path with a slash behind it is another path, and unknown
    return gateway


async def _pass_on(request: Request) -> Response:
    if _fingerprint(request.headers.get("flwr-public-key", "")) not in request.app.state.approved():
        return PlainTextResponse("This key is not approved here.", status_code=401)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return PlainTextResponse("This request is too large.", status_code=413)
    path: str = request.scope["path"]  # the one that was routed by; `request.url` listens to the Host header
    if path.endswith("/push-messages") and not _speaks_for_itself(bytes(body)):
        return PlainTextResponse("A site may send its own answers only.", status_code=403)
    # As bytes, whatever they are; of several alike the first, whose key was looked at.
    headers = {key.encode(): request.headers[key].encode("latin-1") for key in PASSED_ON & set(request.headers)}
    client: httpx.AsyncClient = request.app.state.client
    try:
        answer = await client.post(path, content=bytes(body), headers=headers)
    except httpx.TransportError:  # the SuperLink is starting or gone; a SuperNode tries again after this answer
        return PlainTextResponse("The hub is not ready.", status_code=503)
    kept = {key: value for key, value in answer.headers.items() if key in PASSED_ON}
    return Response(answer.content, answer.status_code, kept)


@lru_cache(maxsize=256)
def _fingerprint(header: str) -> str:
    """Fingerprint of the key in a header, empty if it holds none; that it is the caller's, the SuperLink checks."""
    try:
        key = load_pem_public_key(base64.b64decode(header, validate=True))
        return fingerprint_of(key) if isinstance(key, ec.EllipticCurvePublicKey) else ""
    except (ValueError, UnsupportedAlgorithm):  # also a curve that OpenSSH has no name for
        return ""


def _speaks_for_itself(body: bytes) -> bool:
    """Whether all messages are answers of the node that the SuperLink will authenticate.

    The SuperLink itself takes a message from any registered node in its own name, to any other: an order.
    """
    try:
        request = PushMessagesRequest.FromString(body)
    except DecodeError:
        return False
    return all(
        message.metadata.src_node_id == request.node.node_id and message.metadata.reply_to_message_id
        for message in request.messages_list
    )
