"""Approving and revoking a site at a hub that is not running: what its next start registers."""

from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.errors import RunError
from server.hub import admission, flwr_cli
from server.hub.admission import approve_site, check_approved_sites, revoke_site
from server.hub.approved_sites import APPROVED_SITES, write_approved_sites
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


def test_a_hub_does_not_start_with_a_revoked_key_that_a_backup_has_brought_back(hub, tmp_path):
    approve_site(hub, public_key_file(tmp_path, "north")[0])
    check_approved_sites(hub)
    backup = (hub.path / APPROVED_SITES).read_text()
    revoke_site(hub, "north")
    (hub.path / APPROVED_SITES).write_text(backup)
    with pytest.raises(RunError, match="north, which was revoked") as error:
        check_approved_sites(hub)
    assert f"fedbus hub revoke {hub.path} north" in error.value.remedy
    revoke_site(hub, "north")
    check_approved_sites(hub)
    assert hub.sites() == {}


def test_a_hub_does_not_start_with_a_key_that_is_missing_or_was_not_approved(hub, tmp_path):
    """Two sites whose keys are exchanged would each answer in the name of the other."""
    for name in ("north", "south"):
        approve_site(hub, public_key_file(tmp_path, name)[0])
    north, south = hub.sites().values()
    exchanged = replace(north, public_key=south.public_key), replace(south, public_key=north.public_key)
    write_approved_sites(hub.path, exchanged)
    with pytest.raises(RunError, match="north, south: the key"):
        check_approved_sites(hub)
    write_approved_sites(hub.path, (north, replace(south, public_key="")))
    with pytest.raises(RunError, match=r"no public key of south.*state\.db"):
        check_approved_sites(hub)
