"""A hub's folder: made completely or not at all, only for its owner, checked when it is opened."""

import json
import os
import shutil
import stat
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
from flwr.cli.flower_config import read_superlink_connection

import server.hub.folder
from fedbus.errors import RunError, SettingsError
from server.hub.approved_sites import ApprovedSite
from server.hub.certificates import read_expiry
from server.hub.folder import HubFolder, HubSettings, init_hub, open_hub
from tests.tls import handshake

NORTH = ApprovedSite("north", 2**64 - 1, "SHA256:" + "a" * 43, "2026-01-31T12:00:00+00:00")
SOUTH = ApprovedSite("south", 7, "SHA256:" + "b" * 43, "2026-01-31T12:00:00.5Z")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub that tests only read."""
    path = tmp_path_factory.mktemp("hubs") / "hub"
    init_hub(path, "hub.example.org", names=("10.0.0.7",), port=9192, superlink_port=9193)
    return path


@pytest.fixture
def hub(made: Path, tmp_path: Path) -> HubFolder:
    """A copy of the hub for one test, in another folder."""
    return open_hub(shutil.copytree(made, tmp_path / "moved"))


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_hub_has_all_its_files_and_private_keys_only_for_its_owner(made):
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    assert files == {
        "ca.crt", "ca.key", "server.crt", "server.key", "hub.toml", "approved_sites.json", "flower/config.toml",
        "audit.jsonl", "audit.head",
    }  # fmt: skip
    assert (mode(made), mode(made / "ca.key"), mode(made / "server.key")) == (0o700, 0o600, 0o600)
    assert [path.name for path in made.parent.iterdir()] == ["hub"]


def test_an_opened_hub_has_the_requested_settings(made):
    opened = open_hub(made)
    assert opened.settings == HubSettings(host="hub.example.org", port=9192, superlink_port=9193, listen="0.0.0.0")
    assert opened.path == made
    assert opened.sites() == {}


def test_a_relative_path_becomes_absolute(made, monkeypatch):
    monkeypatch.chdir(made.parent)
    assert open_hub(Path("hub")).database == made / "state.db"
    with pytest.raises(RunError, match="current folder"):
        init_hub(Path(), "hub")


@pytest.mark.parametrize("host", ["hub.example.org", "10.0.0.7", "localhost", "127.0.0.1", "::1"])
def test_sites_with_ca_crt_can_connect_under_each_name(made, host):
    opened = open_hub(made)
    assert handshake(opened.certificate, opened.key, opened.ca_certificate, host) == b"welcome"


def test_every_setting_has_a_comment_and_the_title_has_the_expiry_dates(made):
    text = (made / "hub.toml").read_text(encoding="utf-8")
    lines = text.splitlines()
    assert set(tomllib.loads(text)) == {"host", "listen", "port", "superlink-port"}
    for index, line in enumerate(lines):
        assert not line or line.startswith("#") or lines[index - 1].startswith("# ")
    for file in ("ca.crt", "server.crt"):
        assert f"{file} is valid until {read_expiry(made / file):%Y-%m-%d}" in text


def test_flower_finds_the_superlink_of_this_hub(hub, monkeypatch):
    monkeypatch.setenv("FLWR_HOME", str(hub.flower))
    for connection in (read_superlink_connection("hub"), read_superlink_connection()):
        assert (connection.name, connection.address) == ("hub", "127.0.0.1:9193")
        assert connection.root_certificates == str(hub.ca_certificate)
        assert not connection.insecure


def test_flowers_connection_follows_the_port_and_is_restored(hub, monkeypatch):
    text = (hub.path / "hub.toml").read_text(encoding="utf-8")
    (hub.path / "hub.toml").write_text(text.replace("9193", "9999"), encoding="utf-8")
    shutil.rmtree(hub.flower)
    assert open_hub(hub.path).settings.superlink_port == 9999
    monkeypatch.setenv("FLWR_HOME", str(hub.flower))
    assert read_superlink_connection("hub").address == "127.0.0.1:9999"


def test_an_empty_folder_can_become_a_hub_and_a_path_can_have_odd_characters(tmp_path):
    path = tmp_path / 'a "b" c\\d é'
    path.mkdir(mode=0o755)
    opened = open_hub(init_hub(path, "::1").path)
    assert mode(path) == 0o700
    config = tomllib.loads((opened.flower / "config.toml").read_text(encoding="utf-8"))
    assert config["superlink"]["hub"]["root-certificates"] == str(path / "ca.crt")


def test_a_folder_that_is_not_empty_is_left_unchanged(tmp_path):
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / ".hidden").write_text("x")
    with pytest.raises(RunError, match="is not empty"):
        init_hub(tmp_path / "hub", "hub")
    with pytest.raises(RunError, match="is a file"):
        init_hub(tmp_path / "hub" / ".hidden", "hub")
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["hub", "hub/.hidden"]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_hub_that_can_not_be_completed_leaves_nothing(tmp_path, monkeypatch, failure):
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr(server.hub.folder, "settings_file_text", fail)
    with pytest.raises(RunError if isinstance(failure, OSError) else KeyboardInterrupt):
        init_hub(tmp_path / "hub", "hub")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"host": "https://hub"}, "host: 'https://hub' is neither a DNS name"),
        ({"host": "hub:9092"}, "host: 'hub:9092' is neither"),
        ({"host": "0.0.0.0"}, "host: '0.0.0.0' does not identify one machine"),
        ({"host": "hub", "names": ("a b",)}, "further names: host: 'a b' is neither"),
        ({"host": "hub", "port": 0}, "port: .*greater than or equal to 1, not 0"),
        ({"host": "hub", "superlink_port": 65536}, "superlink-port: .*less than or equal to 65535"),
        ({"host": "hub", "port": 9093}, "superlink-port: 9093 is also the port for sites"),
    ],
)
def test_a_hub_with_invalid_settings_is_not_made(tmp_path, changes, words):
    with pytest.raises(SettingsError, match=words):
        init_hub(tmp_path / "hub", **changes)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("port = 9192", "prot = 9192", r"hub\.toml: unknown key 'prot'"),
        ("port = 9192", 'port = "9192"', r"hub\.toml: port: .*valid integer, not '9192'"),
        ("port = 9192", "port = true", r"hub\.toml: port: .*valid integer, not True"),
        ("port = 9192", "port = 9193", r"superlink-port: 9193"),
        ('host = "hub.example.org"', "", r"hub\.toml: host is missing"),
        ('listen = "0.0.0.0"', 'listen = "all of them"', r"listen: 'all of them' is neither"),
        ("port = 9192", "port = ", r"hub\.toml is not a TOML file"),
    ],
)
def test_malformed_settings_are_named(hub, old, new, words):
    file = hub.path / "hub.toml"
    text = file.read_text(encoding="utf-8")
    assert text.count(f"\n{old}") == 1
    file.write_text(text.replace(f"\n{old}", f"\n{new}"), encoding="utf-8")
    with pytest.raises(SettingsError, match=words):
        open_hub(hub.path)


def test_another_host_than_the_certificate_s_is_refused(hub):
    file = hub.path / "hub.toml"
    file.write_text(file.read_text(encoding="utf-8").replace("hub.example.org", "hub.example.com"), encoding="utf-8")
    with pytest.raises(RunError, match=r"not valid for the host 'hub\.example\.com'"):
        open_hub(hub.path)


@pytest.mark.parametrize("name", ["hub.toml", "ca.crt", "server.crt", "server.key", "approved_sites.json"])
def test_a_missing_file_is_named(hub, name):
    (hub.path / name).unlink()
    with pytest.raises(RunError, match=rf"moved/{name} is missing"):
        open_hub(hub.path)


def test_the_key_of_the_ca_may_be_kept_elsewhere(hub):
    hub.ca_key.unlink()
    assert open_hub(hub.path) == hub


@pytest.mark.parametrize("name", ["ca.key", "server.key"])
@pytest.mark.parametrize("bits", [0o640, 0o604, 0o602])
def test_a_key_that_others_can_read_is_refused_with_the_remedy(hub, name, bits):
    (hub.path / name).chmod(bits)
    with pytest.raises(RunError, match=rf"{name} is secret, and others can read it \(mode {bits:o}\)") as caught:
        open_hub(hub.path)
    assert "chmod 600" in caught.value.remedy
    os.system(caught.value.remedy.split("`")[1])
    assert open_hub(hub.path) == hub


def test_sites_are_added_removed_and_sorted(hub):
    hub.add_site(SOUTH)
    hub.add_site(NORTH)
    assert list(hub.sites().items()) == [("north", NORTH), ("south", SOUTH)]
    assert open_hub(hub.path).sites() == {"north": NORTH, "south": SOUTH}
    assert json.loads((hub.path / "approved_sites.json").read_text())[0] == {
        "name": "north", "node": 18446744073709551615, "key": NORTH.key, "approved": NORTH.approved,
        "public_key": "",
    }  # fmt: skip
    hub.remove_site("south")
    assert hub.sites() == {"north": NORTH}
    with pytest.raises(RunError, match=r"No site called south is approved .*Name one of: north"):
        hub.remove_site("south")


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (replace(SOUTH, name="north"), "two sites have the name north"),
        (replace(SOUTH, node=NORTH.node), f"two sites have the node {NORTH.node}"),
        (replace(SOUTH, key=NORTH.key), "two sites have the key SHA256:a"),
        (replace(SOUTH, name="../x"), r"'\.\./x' can't name a folder"),
        (replace(SOUTH, name="all"), "'all' means several sites"),
        (replace(SOUTH, node=0), r"node: .*greater than or equal to 1"),
        (replace(SOUTH, node=2**64), r"node: .*less than"),
        (replace(SOUTH, node=True), r"node: .*valid integer"),
        (replace(SOUTH, key="MD5:aa:bb"), r"key: .*pattern"),
        (replace(SOUTH, key=SOUTH.key + "\n"), r"key: .*pattern"),
        (replace(SOUTH, approved="2026-01-31T12:00:00"), "approved: .*not a time in UTC"),
        (replace(SOUTH, approved="yesterday"), "approved: "),
    ],
)
def test_a_malformed_or_duplicate_site_is_not_approved(hub, site, words):
    hub.add_site(NORTH)
    with pytest.raises(RunError, match=words):
        hub.add_site(site)
    assert hub.sites() == {"north": NORTH}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("[", r"approved_sites\.json is damaged: .*JSON"),
        ("{}", r"approved_sites\.json is damaged: .*valid"),
        ('[{"name": "north"}]', "0.node is missing"),
        ('[{"name": "n", "node": 1, "key": "SHA256:%s", "approved": "2026-01-01Z", "x": 1}]' % ("a" * 43), "'0.x'"),
    ],
)
def test_a_damaged_list_of_sites_approves_no_site(hub, content, words):
    (hub.path / "approved_sites.json").write_text(content)
    with pytest.raises(RunError, match=words):
        hub.sites()
    with pytest.raises(RunError, match="is damaged"):
        hub.add_site(NORTH)
    assert (hub.path / "approved_sites.json").read_text() == content
