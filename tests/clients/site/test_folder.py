"""A site's folder: made completely or not at all, only for its owner, checked when it is opened."""

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

import clients.site.folder
from clients.site.folder import SiteSettings, init_site, open_site_folder
from clients.site.keys import fingerprint, make_key_pair
from fedbus.errors import RunError
from server.hub.site_keys import read_public_key
from tests.site_folders import HUB


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_new_site_has_all_its_files_and_a_private_key_only_for_its_owner(site, ca):
    assert {path.name for path in site.path.iterdir()} == {
        "site.toml", "site.key", "st-mary.pub", "ca.crt", "approved.json", "audit.jsonl", "audit.head"
    }  # fmt: skip
    assert (mode(site.path), mode(site.key)) == (0o700, 0o600)
    assert site.ca_certificate.read_bytes() == ca.certificate_pem
    assert {path.name for path in site.path.parent.iterdir()} == {"downloads", "site"}


def test_an_opened_site_has_the_requested_settings(site):
    assert open_site_folder(site.path) == site
    assert site.settings == SiteSettings(name="st-mary", hub=HUB, runtime_port=9194)
    assert (site.settings.reader, site.settings.data, site.settings.device) == ("", "", "auto")


def test_hub_and_site_show_the_same_fingerprint(site):
    assert read_public_key(site.public_key)[:2] == ("st-mary", fingerprint(site.key))


def test_ssh_keygen_reads_both_keys(site):
    program = shutil.which("ssh-keygen")
    if not program:
        pytest.skip("no ssh-keygen on this machine")
    shown = subprocess.run([program, "-lf", site.public_key], capture_output=True, text=True, timeout=20, check=True)
    assert shown.stdout.split() == ["384", fingerprint(site.key), "st-mary", "(ECDSA)"]
    derived = subprocess.run([program, "-yf", site.key], capture_output=True, text=True, timeout=20, check=True)
    assert derived.stdout.split() == site.public_key.read_text().split()[:2]


def test_a_folder_that_is_not_empty_is_left_unchanged(site, ca_file):
    before = {path: path.read_bytes() for path in site.path.iterdir()}
    with pytest.raises(RunError, match="is not empty"):
        init_site(site.path, "north", HUB, ca_file)
    assert {path: path.read_bytes() for path in site.path.iterdir()} == before


def test_a_site_that_can_not_be_completed_leaves_nothing(tmp_path, ca_file, monkeypatch):
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(clients.site.folder, "settings_file_text", fail)
    with pytest.raises(RunError, match=r"site could not be created \(No space left on device\)"):
        init_site(tmp_path / "site", "north", HUB, ca_file)
    assert list(tmp_path.iterdir()) == [ca_file.parent]


@pytest.mark.parametrize("name", ["site.toml", "site.key", "st-mary.pub", "ca.crt", "approved.json"])
def test_a_missing_file_is_named(site, name):
    (site.path / name).unlink()
    with pytest.raises(RunError, match=rf"site/{name} is missing"):
        open_site_folder(site.path)


def test_a_key_that_others_can_read_is_refused_with_the_remedy(site):
    site.key.chmod(0o644)
    with pytest.raises(RunError, match=r"site\.key is secret, and others can read it \(mode 644\)") as caught:
        open_site_folder(site.path)
    subprocess.run(caught.value.remedy.split("`")[1], shell=True, check=True)
    assert open_site_folder(site.path) == site


def test_a_name_other_than_the_key_s_is_refused(site):
    text = site.settings_file.read_text(encoding="utf-8")
    site.settings_file.write_text(text.replace('"st-mary"', '"st-paul"'), encoding="utf-8")
    with pytest.raises(RunError, match=r"st-paul\.pub is missing.*put the former name back"):
        open_site_folder(site.path)


def test_keys_of_two_pairs_are_refused(site, tmp_path):
    make_key_pair(tmp_path / "other.key", tmp_path / "other.pub", "st-mary")
    shutil.copy(tmp_path / "other.pub", site.public_key)
    with pytest.raises(RunError, match=r"st-mary\.pub is not the public key of .*site\.key"):
        open_site_folder(site.path)
