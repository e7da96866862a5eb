"""Headers of a SuperNode's calls, signed as Flower's own client signs them."""

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor


def signed_headers(private: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    """Return the headers of a call at this time."""
    request = httpx.Request("POST", "https://hub/", headers={"content-type": "application/x-protobuf"})
    context = ProtobufRequestContext("pull", PullMessagesRequest(), request)
    NodeAuthHttpInterceptor(private, private.public_key()).intercept(context, lambda _: httpx.Response(200))
    return {key: value for key, value in request.headers.items() if key.startswith("flwr-") or key == "content-type"}
