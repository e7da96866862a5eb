"""The list of sites and keys that a hub sends."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedbus.deployment.roster import fingerprints, roster_line
from fedbus.errors import RunError
from server.hub.folder import HubFolder, init_hub
from server.hub.roster import roster_of
from tests.approved_sites import approved_site


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return init_hub(tmp_path / "hub", "hub.example.org")


def test_the_list_has_the_approved_keys(hub):
    sites = [approved_site(name, node) for node, name in enumerate(("south", "north"), 1)]
    for site in sites:
        hub.add_site(site)
    assert roster_of(hub) == tuple(roster_line(site.name, site.public_key) for site in reversed(sites))
    assert fingerprints(roster_of(hub)) == {site.name: site.key for site in sites}


def test_a_key_that_is_not_known_is_refused(hub):
    hub.add_site(replace(approved_site("north", 1), public_key=""))
    with pytest.raises(RunError, match=r"can't be sent.*not a name and a public key"):
        roster_of(hub)


def test_a_key_that_is_not_the_approved_one_is_refused(hub):
    hub.add_site(replace(approved_site("north", 1), public_key=approved_site("north", 1).public_key))
    with pytest.raises(RunError, match=r"north.*fingerprint"):
        roster_of(hub)
