"""Folders that version 0.1 wrote: their files are read under the old names, and renamed by the next write."""

import json
from dataclasses import asdict

import pytest

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.system import files
from fedbus.transport.messages import Registration
from server.hub.approved_sites import APPROVED_SITES, ApprovedSite
from server.hub.folder import HubFolder, init_hub, open_hub
from server.hub.registrations import REGISTRATIONS_FILE, read_registrations, record_registrations
from server.hub.start import ApprovedKeys
from server.rounds.messaging import Participants

NORTH = ApprovedSite("north", 1, "SHA256:" + "a" * 43, "2026-01-31T12:00:00+00:00")
SOUTH = ApprovedSite("south", 2, "SHA256:" + "b" * 43, "2026-01-31T12:00:00+00:00")


@pytest.fixture
def old_hub(tmp_path) -> HubFolder:
    """A hub with one site, as version 0.1 wrote it."""
    hub = init_hub(tmp_path / "hub", "127.0.0.1")
    hub.add_site(NORTH)
    (hub.path / APPROVED_SITES).rename(hub.path / "sites.json")
    return open_hub(hub.path)


def names_in(folder) -> set[str]:
    return {path.name for path in folder.iterdir()} & {"sites.json", APPROVED_SITES, REGISTRATIONS_FILE}


def test_an_old_hub_opens_with_its_sites(old_hub):
    assert old_hub.sites() == {"north": NORTH}
    assert ApprovedKeys(old_hub)() == {NORTH.key}
    assert names_in(old_hub.path) == {"sites.json"}


def test_the_next_change_renames_the_list_of_approved_sites(old_hub):
    keys = ApprovedKeys(old_hub)
    assert keys() == {NORTH.key}
    old_hub.add_site(SOUTH)
    assert names_in(old_hub.path) == {APPROVED_SITES}
    assert open_hub(old_hub.path).sites() == {"north": NORTH, "south": SOUTH}
    assert keys() == {NORTH.key, SOUTH.key}


def test_a_change_that_fails_leaves_the_old_list(old_hub, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.json, "dumps", fail)
    with pytest.raises(OSError, match="No space left"):
        old_hub.add_site(SOUTH)
    monkeypatch.undo()
    assert names_in(old_hub.path) == {"sites.json"}
    assert old_hub.sites() == {"north": NORTH}


def test_of_two_lists_the_new_one_counts(old_hub):
    """A crash between writing the new file and removing the old one leaves both."""
    old = (old_hub.path / "sites.json").read_text()
    old_hub.remove_site("north")
    (old_hub.path / "sites.json").write_text(old)
    assert old_hub.sites() == {}
    old_hub.add_site(SOUTH)
    assert names_in(old_hub.path) == {APPROVED_SITES}


def test_a_hub_without_any_list_misses_the_new_one(old_hub):
    (old_hub.path / "sites.json").unlink()
    with pytest.raises(RunError, match=APPROVED_SITES):
        open_hub(old_hub.path)


def registration(site: str = "north", images: int = 9) -> Registration:
    counts = (images, images, images)
    return Registration(
        site=site, labels=CLASSES, image_size=32, splits={"train": counts, "validation": counts, "test": counts},
        balanced=counts, groups=5, patients=5, dropped=0, phantoms=False,
    )  # fmt: skip


def participants(*registrations: Registration) -> Participants:
    return Participants(dict(enumerate(registrations, 1)))


@pytest.fixture
def old_run(tmp_path):
    """A run folder with one site, as version 0.1 wrote it."""
    facts = asdict(registration())
    facts["parts"] = facts.pop("splits")
    (tmp_path / "sites.json").write_text(json.dumps({"north": facts}))
    return tmp_path


def test_an_old_run_folder_can_be_read_and_resumed(old_run):
    before = read_registrations(old_run)
    assert before["north"]["splits"]["test"] == [9, 9, 9]
    record_registrations(old_run, participants(registration()))
    assert names_in(old_run) == {REGISTRATIONS_FILE}
    assert read_registrations(old_run) == before


@pytest.mark.parametrize(
    ("sites", "words"),
    [
        ([registration(), registration("south")], "south: .* was started with north"),
        ([registration(images=8)], "north: the number of images has changed"),
    ],
)
def test_an_old_run_folder_refuses_other_sites_and_counts(old_run, sites, words):
    with pytest.raises(RunError, match=words):
        record_registrations(old_run, participants(*sites))
    assert names_in(old_run) == {"sites.json"}


def test_registrations_come_back_as_they_were_recorded(tmp_path):
    for _ in range(2):  # the second time as when the run is resumed
        record_registrations(tmp_path, participants(registration("south"), registration()))
    assert list(read_registrations(tmp_path)) == ["north", "south"]
