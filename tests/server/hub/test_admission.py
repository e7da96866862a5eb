"""Approving and revoking a site at a hub that is not running: what its next start registers."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.errors import RunError
from server.hub import admission, flwr_cli
from server.hub.admission import approve_site, revoke_site
from server.hub.folder import HubFolder, init_hub
from server.hub.superlink_process import registered_keys


@pytest.fixture
def hub(tmp_path, monkeypatch) -> HubFolder:
    monkeypatch.setattr(admission, "is_up", lambda hub: False)
    for name in ("register", "unregister"):
        monkeypatch.setattr(flwr_cli, name, lambda *arguments: pytest.fail("Flower is not running"))
    return init_hub(tmp_path / "hub", "hub.example.org")


def public_key_file(folder: Path, name: str) -> tuple[Path, str]:
    key = ec.generate_private_key(ec.SECP384R1()).public_key()
    path = folder / f"{name}.pub"
    path.write_text(public_line(key, name))
    return path, fingerprint_of(key)


def test_a_site_is_approved_and_registered_at_the_next_start(hub, tmp_path):
    path, fingerprint = public_key_file(tmp_path, "north")
    approved = approve_site(hub, path)
    assert hub.sites() == {"north": approved}
    assert (approved.key, 2 <= approved.node < 2**64) == (fingerprint, True)
    assert [(key.node, key.name) for key in registered_keys(hub.path)] == [(approved.node, "north")]


def test_a_revoked_key_is_not_registered_and_never_approved_again(hub, tmp_path):
    path, fingerprint = public_key_file(tmp_path, "north")
    approve_site(hub, path)
    revoke_site(hub, "north")
    assert registered_keys(hub.path) == []
    assert hub.revoked() == [fingerprint]
    with pytest.raises(RunError, match="was revoked"):
        approve_site(hub, path)
    assert hub.sites() == {}
