"""Questions to the SuperLink's control API, asked by this process.

`flwr` would ask the same, but it is a Python program: on a busy machine it takes minutes to start.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from server.flower_internals import (
    ControlHttpClient,
    ListNodesRequest,
    ListRunsRequest,
    RuntimeVersionHttpInterceptor,
    StopRunRequest,
)
from server.hub.folder import HubFolder
from server.hub.superlink import HOST

GONE = "gone"
"""The state of a run that Flower does not know."""


def run_state(hub: HubFolder, run: str) -> str | None:
    """Return Flower's state of a run, such as `running`, `finished:failed` or `GONE`; None if there is no answer.

    Args:
        hub: The hub's folder.
        run: The run's number.
    """
    try:
        with _client(hub) as client:
            answer = client.ListRuns(ListRunsRequest(run_id=int(run)))
    except httpx.HTTPStatusError as error:
        return GONE if error.response.status_code == httpx.codes.NOT_FOUND else None
    except (httpx.HTTPError, ValueError):
        return None
    status = answer.run_dict[int(run)].status
    return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)


def node_states(hub: HubFolder) -> dict[int, str] | None:
    """Return Flower's state of every site by its node, `online` or `offline`; None if there is no answer."""
    try:
        with _client(hub) as client:
            answer = client.ListNodes(ListNodesRequest())
    except (OSError, httpx.HTTPError, ValueError):  # OSError: the certificate is missing
        return None
    return {int(node.node_id): str(node.status) for node in answer.nodes_info}


def stop_run(hub: HubFolder, run: str) -> bool:
    """End a run, and with it Flower's process that trains; return whether the SuperLink has answered."""
    try:
        with _client(hub) as client:
            client.StopRun(StopRunRequest(run_id=int(run)))
    except (httpx.HTTPError, ValueError):
        return False
    return True


@contextmanager
def _client(hub: HubFolder) -> Iterator[ControlHttpClient]:
    client = ControlHttpClient.from_server_address(
        server_address=f"{HOST}:{hub.settings.superlink_port}",
        insecure=False,
        root_certificates=hub.ca_certificate.read_bytes(),
        interceptors=[RuntimeVersionHttpInterceptor(component_name="fedbus")],
    )
    try:
        yield client
    finally:
        client.close()
