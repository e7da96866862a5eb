"""The list of sites and keys that a hub sends, also of sites that an earlier version approved."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.server.superlink.linkstate import LinkStateFactory
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.superlink.federation import NoOpFederationManager

from fedbus.deployment.keys import fingerprint_of, public_line
from fedbus.deployment.roster import fingerprints, roster_line
from fedbus.errors import RunError
from server.hub.approved_sites import ApprovedSite
from server.hub.folder import HubFolder, init_hub
from server.hub.roster import roster_of
from tests.approved_sites import approved_site, new_public_key


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "hub", "hub.example.org")


def test_the_list_has_the_approved_keys(hub):
    sites = [approved_site(name, node) for node, name in enumerate(("south", "north"), 1)]
    for site in sites:
        hub.add_site(site)
    assert roster_of(hub) == tuple(roster_line(site.name, site.public_key) for site in reversed(sites))
    assert fingerprints(roster_of(hub)) == {site.name: site.key for site in sites}


@pytest.mark.filterwarnings("ignore:No path_separator found:DeprecationWarning")  # of Flower's migrations
def test_the_key_of_a_site_that_version_0_1_approved_is_found_at_flower(hub):
    """Flower's own SuperLink state, on disk, has registered the key."""
    key = new_public_key()
    state = LinkStateFactory(str(hub.database), NoOpFederationManager(), ObjectStoreFactory()).state()
    state.create_node("owner", "owner", public_key_to_bytes(new_public_key()), 30)
    node = state.create_node("owner", "owner", public_key_to_bytes(key), 30)
    hub.add_site(ApprovedSite("north", node, fingerprint_of(key), "2026-01-31T12:00:00+00:00"))
    hub.add_site(approved_site("south", 2))
    assert roster_of(hub)[0] == roster_line("north", public_line(key, ""))


def test_a_key_that_is_not_known_is_refused(hub):
    hub.add_site(replace(approved_site("north", 1), public_key=""))
    with pytest.raises(RunError, match=r"can't be sent.*not a name and a public key"):
        roster_of(hub)
    with sqlite3.connect(hub.database) as database:
        database.execute("CREATE TABLE node (public_key BLOB)")
    with pytest.raises(RunError, match="can't be sent"):
        roster_of(hub)
    hub.database.write_bytes(b"not a database")
    with pytest.raises(RunError, match=r"state\.db can't be read"):
        roster_of(hub)


def test_a_key_that_is_not_the_approved_one_is_refused(hub):
    hub.add_site(replace(approved_site("north", 1), public_key=approved_site("north", 1).public_key))
    with pytest.raises(RunError, match=r"north.*fingerprint"):
        roster_of(hub)
