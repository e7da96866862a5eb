"""The gateway: the part of the hub that a site can reach.

Flower's SuperLink serves sites, operators and its own workers on one port and does not authenticate operators: anyone
who reaches that port can start a run, which is code at every site. So the SuperLink listens only on this machine, and
sites connect to the gateway, which forwards the calls of an approved site's SuperNode and answers nothing else.
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
"""The calls of a SuperNode; not among them: to register or unregister a node, which is the operator's decision."""

MAX_BODY_BYTES = 16 << 20
"""Of one request; Flower splits arrays into chunks of 5 MB."""

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


def make_gateway(superlink: str, ca_certificate: Path, approved_keys: GetApprovedKeys) -> Starlette:
    """Make the web application to which sites connect.

    Args:
        superlink: HOST:PORT of the SuperLink on this machine.
        ca_certificate: Verifies the certificate of the SuperLink.
        approved_keys: Called for every request, so that revoking a key takes effect at once.
    """
    context = ssl.create_default_context(cafile=str(ca_certificate))

    @asynccontextmanager
    async def open_client(app: Starlette) -> AsyncIterator[None]:
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        async with httpx.AsyncClient(
            base_url=f"https://{superlink}", verify=context, timeout=UPSTREAM_TIMEOUT_SECONDS, limits=limits
        ) as client:
            app.state.client, app.state.approved_keys = client, approved_keys
            yield

    routes = [Route(f"/v1/fleet/{call}", _forward, methods=["POST"]) for call in FLEET_CALLS]
    gateway = Starlette(routes=routes, lifespan=open_client)
    gateway.router.redirect_slashes = False  # a path with a trailing slash is unknown, like any other path
    return gateway


async def _forward(request: Request) -> Response:
    # The key comes first: a stranger's body is not even read.
    if _fingerprint(request.headers.get("flwr-public-key", "")) not in request.app.state.approved_keys():
        return PlainTextResponse("This key is not approved here.", status_code=401)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return PlainTextResponse("This request is too large.", status_code=413)
    path: str = request.scope["path"]  # the path that was routed; `request.url` depends on the Host header
    if path.endswith("/push-messages") and not _are_own_replies(bytes(body)):
        return PlainTextResponse("A site may only send its own replies.", status_code=403)
    # As bytes, so that any value passes unchanged. Of repeated headers the first, whose key was checked above.
    headers = {key.encode(): request.headers[key].encode("latin-1") for key in FORWARDED_HEADERS & set(request.headers)}
    client: httpx.AsyncClient = request.app.state.client
    try:
        answer = await client.post(path, content=bytes(body), headers=headers)
    except httpx.TransportError:  # the SuperLink is starting or has ended; after a 503 a SuperNode tries again
        return PlainTextResponse("The hub is not ready.", status_code=503)
    kept = {key: value for key, value in answer.headers.items() if key in FORWARDED_HEADERS}
    return Response(answer.content, answer.status_code, kept)


@lru_cache(maxsize=256)
def _fingerprint(header: str) -> str:
    """Fingerprint of the key in a header, empty if there is none.

    Whether the caller has the private key is checked by the SuperLink, from the request's signature.
    """
    try:
        key = load_pem_public_key(base64.b64decode(header, validate=True))
        return fingerprint_of(key) if isinstance(key, ec.EllipticCurvePublicKey) else ""
    except (ValueError, UnsupportedAlgorithm):  # also a curve that OpenSSH has no name for
        return ""


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
