"""Which sites the hub accepts: none with another CA, an unknown or revoked key, or a wrong clock."""

import datetime
import re
import ssl
from collections.abc import Iterator

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from flwr.proto.fleet_pb2 import ActivateNodeRequest
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from clients.join import join
from clients.site import hub_contact
from clients.site.folder import SiteFolder
from clients.site.keys import read_private_key
from fedbus.errors import RunError
from server.hub.admission import approve_site, revoke_site
from server.hub.bundle import stage_application
from server.hub.certificates import make_ca
from server.hub.gateway import FLEET_CALLS
from simulations.local_federation import PATIENCE_SECONDS, LocalFederation
from tests.deployment.conftest import TIMEOUT_SECONDS, words_of

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)


@pytest.fixture(scope="module")
def guest(hub: LocalFederation, datasets) -> Iterator[SiteFolder]:
    """A fourth site, approved for these tests."""
    site = hub.make_site("guest").with_data(*datasets["east"])
    _, digest = stage_application(hub.hub)
    approve_site(hub.hub, site.public_key)
    site.approve_any_study(digest)
    yield site
    if "guest" in hub.hub.sites():
        revoke_site(hub.hub, "guest")


def refusal(site: SiteFolder) -> str:
    """Why a site can't join; it refuses in this process, before it starts another."""
    lines: list[str] = []
    with pytest.raises(RunError) as refused:
        join(site, lines.append)
    assert [line.partition(":")[0] for line in lines] == ["audit log"]
    return refused.value.problem


def test_a_site_with_an_unknown_key_can_not_join(hub, datasets):
    site = hub.make_site("unknown").with_data(*datasets["east"])
    assert "has not approved this site's key, or has revoked it: send it unknown.pub" in refusal(site)


def test_a_site_with_the_ca_of_another_hub_can_not_join(hub, datasets, tmp_path):
    (tmp_path / "other.crt").write_bytes(make_ca("localhost").certificate_pem)
    site = hub.make_site("misled", tmp_path / "other.crt").with_data(*datasets["east"])
    assert "can't be verified with" in refusal(site)


class HourAhead(datetime.datetime):
    """A clock that is an hour ahead."""

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(hours=1)


def test_a_site_with_a_wrong_clock_can_not_join(guest, monkeypatch):
    monkeypatch.setattr(hub_contact, "datetime", HourAhead)
    ahead = re.search(r"clock is (\d+) s ahead of the hub's", refusal(guest))
    assert ahead
    assert abs(int(ahead[1]) - 3600) <= 60  # whole seconds, and a busy hub answers late


def test_a_revoked_site_is_cut_off_while_it_is_joined_and_can_not_come_back(hub, guest):
    hub.spawn("guest", ["site", "join", str(guest.path)])
    hub.wait_until(lambda: guest.log.is_file() and "SuperNode ID" in guest.log.read_text(), "guest")
    revoke_site(hub.hub, "guest")
    assert hub.processes["guest"].wait(PATIENCE_SECONDS) == 1
    assert "has not approved this site's key" in words_of(hub, "guest")
    assert "guest" not in hub.hub.sites()
    with pytest.raises(RunError, match="was revoked and can't be approved again"):
        approve_site(hub.hub, guest.public_key)


def test_a_site_reaches_nothing_but_fleet_calls(hub):
    from flwr.superlink.main import create_app

    app = create_app()
    paths = set(app.openapi()["paths"]) | {app.docs_url, app.openapi_url}
    shut = paths - {f"/v1/fleet/{call}" for call in FLEET_CALLS}
    assert {"/docs", "/openapi.json", "/v1/fleet/register-node"} <= shut
    assert any(path.startswith("/v1/control/") for path in shut)
    assert any(path.startswith("/v1/runtime/") for path in shut)
    context = ssl.create_default_context(cafile=str(hub.hub.ca_certificate))
    with httpx.Client(base_url=f"https://localhost:{hub.hub.settings.port}", verify=context, timeout=60) as site:
        for path in sorted(shut):
            assert [site.get(path).status_code, site.post(path).status_code] == [404, 404], path
        for call in FLEET_CALLS:
            assert site.post(f"/v1/fleet/{call}").status_code == 401
    operator_url = f"https://127.0.0.1:{hub.hub.settings.superlink_port}"
    with httpx.Client(base_url=operator_url, verify=context, timeout=60) as operator:
        assert operator.get("/docs").status_code == 200, "without the gateway, it would be open"


def test_an_approved_public_key_without_its_private_key_opens_nothing(hub):
    public = read_private_key(hub.sites["north"].key).public_key()
    other = ec.generate_private_key(ec.SECP384R1())
    client = FleetHttpClient(
        f"https://{hub.sites['north'].settings.hub}",
        interceptors=[NodeAuthHttpInterceptor(other, public)],
        verify=ssl.create_default_context(cafile=str(hub.hub.ca_certificate)),
    )
    request = ActivateNodeRequest(public_key=public_key_to_bytes(public), heartbeat_interval=30)
    with client, pytest.raises(httpx.HTTPStatusError, match="401"):
        client.ActivateNode(request)
