"""A server certificate that is renewed while the hub runs: gateway and SuperLink use it without a restart."""

import socket
import ssl

import pytest

from server.hub.renewal import renew_certificate
from server.hub.superlink import is_up
from simulations.local_federation import LocalFederation
from tests.deployment.conftest import TIMEOUT_SECONDS

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


def test_gateway_and_superlink_use_a_renewed_certificate_at_once(hub: LocalFederation):
    ports = [hub.hub.settings.port, hub.hub.settings.superlink_port]
    before = hub.hub.certificate.read_text()
    for port in ports:
        assert served(hub, port) == ssl.PEM_cert_to_DER_cert(before)
    renew_certificate(hub.hub)
    assert hub.hub.certificate.read_text() != before
    for port in ports:
        assert served(hub, port) == ssl.PEM_cert_to_DER_cert(hub.hub.certificate.read_text())
    assert is_up(hub.hub)
    assert hub.processes["hub"].poll() is None


def served(hub: LocalFederation, port: int) -> bytes:
    """The certificate at a port, verified with the CA that sites have."""
    context = ssl.create_default_context(cafile=str(hub.hub.ca_certificate))
    with (
        socket.create_connection(("localhost", port), timeout=60) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        found = connection.getpeercert(binary_form=True)
    assert found is not None
    return found
