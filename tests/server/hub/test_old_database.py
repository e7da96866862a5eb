"""A hub's folder of an earlier version, with Flower's state on disk."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.federation import NoOpFederationManager

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.errors import RunError
from server.hub.approved_sites import ApprovedSite
from server.hub.folder import HubFolder, init_hub
from server.hub.old_database import copy_public_keys, unused_database_note
from tests.approved_sites import approved_site, new_public_key


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "hub", "hub.example.org")


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # of Flower's migrations
def test_the_key_of_a_site_that_version_0_1_approved_is_copied_from_flower_once(hub):
    """Flower's own SuperLink state, on disk, has registered the key."""
    key = new_public_key()
    state = LinkStateFactory(str(hub.database), NoOpFederationManager(), ObjectStoreFactory()).state()
    state.create_node("owner", "owner", public_key_to_bytes(new_public_key()), 30)
    node = state.create_node("owner", "owner", public_key_to_bytes(key), 30)
    hub.add_site(ApprovedSite("north", node, fingerprint_of(key), "2026-01-31T12:00:00+00:00"))
    hub.add_site(approved_site("south", 2))
    before = hub.sites()
    copy_public_keys(hub)
    assert hub.sites() == before | {"north": replace(before["north"], public_key=public_line(key, "").strip())}
    assert str(hub.database) in unused_database_note(hub), "it is left to the operator to delete it"
    hub.database.unlink()
    copy_public_keys(hub)
    assert unused_database_note(hub) == ""


def test_a_site_without_a_known_key_is_named_and_nothing_changes(hub):
    hub.add_site(replace(approved_site("north", 1), public_key=""))
    before = hub.sites()
    with pytest.raises(RunError, match=r"no public key of north.*state\.db"):
        copy_public_keys(hub)
    with sqlite3.connect(hub.database) as database:
        database.execute("CREATE TABLE node (public_key BLOB)")
    with pytest.raises(RunError, match="no public key of north") as error:
        copy_public_keys(hub)
    assert "fedbus hub revoke" in error.value.remedy
    hub.database.write_bytes(b"not a database")
    with pytest.raises(RunError, match=r"state\.db can't be read"):
        copy_public_keys(hub)
    assert hub.sites() == before
