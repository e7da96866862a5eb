"""Who gets in: not those with another authority, an unknown or revoked key, or a clock that is off."""

import re
import ssl

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from clients.site.keys import read_private_key
from fedbus.errors import RunError
from server.hub.admission import approve_site, revoke_site
from server.hub.bundle import stage_application
from server.hub.certificates import make_ca
from server.hub.gateway import FLEET_CALLS
from simulations.local_federation import LocalFederation
from tests.deployment.test_faults import TAMPERED


@pytest.fixture(scope="module")
def hub(archives, tmp_path_factory: pytest.TempPathFactory):
    """A hub that has approved east and north; nobody knows south, and west trusts another authority."""
    with LocalFederation(tmp_path_factory.mktemp("admission"), archives, {"OMP_NUM_THREADS": "1"}) as found:
        stranger = found.folder / "stranger.crt"
        stranger.write_bytes(make_ca("localhost").certificate_pem)
        found.sites["west"] = found.make_site("west", stranger).with_data(*archives["east"])
        found.start_hub()
        _, digest = stage_application(found.hub)
        for name in ("east", "north"):
            approve_site(found.hub, found.sites[name].public_key)
            found.sites[name].approve(digest)
        yield found


def words_of(hub: LocalFederation, name: str) -> str:
    return " ".join(hub.log(name).read_text().split())


def test_wrong_clocks_keys_and_authorities_are_told_so_and_let_in_nobody(hub):
    hub.start_site("south")
    hub.start_site("west")
    hub.spawn("north", ["clock", "--", "site", "join", str(hub.sites["north"].path)], (TAMPERED,))
    for name in ("south", "west", "north"):
        assert hub.processes[name].wait(90) == 1
    assert "has not approved this site's key, or has revoked it: send it south.pub" in words_of(hub, "south")
    assert "no certificate that" in words_of(hub, "west")
    assert "vouches for" in words_of(hub, "west")
    ahead = re.search(r"clock is (\d+) s ahead of the hub's", words_of(hub, "north"))
    assert ahead
    assert abs(int(ahead[1]) - 3600) <= 5  # a server writes whole seconds, and renews them when it has time
    for name in ("south", "west", "north"):
        assert "joins" not in words_of(hub, name)


def test_a_revoked_site_is_cut_off_while_it_is_joined_and_can_not_come_back(hub):
    hub.start_site("east")
    log = hub.sites["east"].log
    hub.wait_until(lambda: log.is_file() and "SuperNode ID" in log.read_text(), "east")
    revoke_site(hub.hub, "east")
    assert hub.processes["east"].wait(120) == 1
    assert "has not approved this site's key" in words_of(hub, "east")
    assert "east" not in hub.hub.sites()
    with pytest.raises(RunError, match="a revoked key can't come back"):
        approve_site(hub.hub, hub.sites["east"].public_key)


def test_from_where_a_site_stands_nothing_but_fleet_calls_answers(hub):
    from flwr.superlink.main import create_app

    app = create_app()
    paths = set(app.openapi()["paths"]) | {app.docs_url, app.openapi_url}
    shut = paths - {f"/v1/fleet/{call}" for call in FLEET_CALLS}
    assert {"/docs", "/openapi.json", "/v1/fleet/register-node"} <= shut
    assert any(path.startswith("/v1/control/") for path in shut)
    assert any(path.startswith("/v1/runtime/") for path in shut)
    context = ssl.create_default_context(cafile=str(hub.hub.ca_certificate))
    with httpx.Client(base_url=f"https://localhost:{hub.hub.settings.port}", verify=context) as site:
        for path in sorted(shut):
            assert [site.get(path).status_code, site.post(path).status_code] == [404, 404], path
        for call in FLEET_CALLS:
            assert site.post(f"/v1/fleet/{call}").status_code == 401
    with httpx.Client(base_url=f"https://127.0.0.1:{hub.hub.settings.superlink_port}", verify=context) as operator:
        assert operator.get("/docs").status_code == 200, "there is something to shut"


def test_an_approved_public_key_without_its_private_half_opens_nothing(hub):
    public = read_private_key(hub.sites["north"].key).public_key()
    stranger = ec.generate_private_key(ec.SECP384R1())
    client = FleetHttpClient.from_server_address(
        hub.sites["north"].settings.hub,
        insecure=False,
        root_certificates=str(hub.hub.ca_certificate),
        interceptors=[NodeAuthHttpInterceptor(stranger, public)],
    )
    request = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=30)
    with client, pytest.raises(httpx.HTTPStatusError, match="401"):
        client.ActivateNode(request)
