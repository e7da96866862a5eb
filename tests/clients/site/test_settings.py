"""The settings of a site: checked, and changed without losing a comment."""

import tomllib

import pytest

from clients.limits.limits import Limits
from clients.site.folder import init_site, open_site_folder
from fedbus.errors import RunError, SettingsError
from tests.site_folders import HUB


def test_every_key_of_the_settings_file_has_a_comment(site):
    text = site.settings_file.read_text(encoding="utf-8")
    lines = text.splitlines()
    assert set(tomllib.loads(text)) == {"name", "hub", "reader", "data", "device", "runtime-port", "limits"}
    assert tomllib.loads(text)["limits"] == Limits.model_validate({}).model_dump(by_alias=True)
    for index, line in enumerate(lines):
        comment = lines[index + 1 if line.startswith("[") else index - 1]  # the comment of a table is inside it
        assert not line or line.startswith("#") or comment.startswith("# ")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "st mary"}, "name: 'st mary' can't name a folder"),
        ({"name": "../x"}, r"name: '\.\./x' can't name a folder"),
        ({"name": "pooled"}, "name: 'pooled' means several sites"),
        ({"hub": "hub.example.org"}, "hub: 'hub.example.org' does not end in a port"),
        ({"hub": "https://hub:9092"}, "hub: 'https://hub:9092' is not HOST:PORT"),
        ({"hub": "hub:0"}, "hub: 'hub:0' does not end in a port"),
        ({"runtime_port": 70000}, "runtime-port: .*less than or equal to 65535, not 70000"),
    ],
)
def test_invalid_settings_make_no_site(tmp_path, ca_file, changes, words):
    with pytest.raises(SettingsError, match=words):
        init_site(tmp_path / "site", **{"name": "north", "hub": HUB, "ca": ca_file} | changes)
    assert not (tmp_path / "site").exists()


def test_setting_the_data_keeps_every_comment(site, tmp_path):
    data = tmp_path / 'data "2026" # é\\x'
    data.mkdir()
    before = site.settings_file.read_text(encoding="utf-8")
    before = before.replace('reader = ""', '  reader  =  ""  # ours')
    site.settings_file.write_text(before.replace('"auto"', '"cpu"') + "\n# the end\n", encoding="utf-8")
    changed = site.with_data("labels-csv", data)
    assert changed == open_site_folder(site.path)
    assert (changed.settings.reader, changed.settings.data) == ("labels-csv", str(data))
    assert (changed.settings.device, changed.settings.name) == ("cpu", "st-mary")
    text = site.settings_file.read_text(encoding="utf-8")
    assert '  reader  =  "labels-csv"  # ours' in text
    comments = [line for line in before.splitlines() if line.startswith("#")]
    assert [line for line in text.splitlines() if line.startswith("#")] == [*comments, "# the end"]
    assert changed.with_data("busi", tmp_path).settings.data == str(tmp_path)


def test_a_missing_key_is_added(site, tmp_path):
    text = site.settings_file.read_text(encoding="utf-8")
    site.settings_file.write_text(text.replace('data = ""\n', ""), encoding="utf-8")
    site.with_data("busi", tmp_path)
    assert open_site_folder(site.path).settings.data == str(tmp_path)


@pytest.mark.parametrize("value", ['"""\n"""', "''''''"])
def test_a_value_of_several_lines_is_replaced(site, tmp_path, value):
    text = site.settings_file.read_text(encoding="utf-8").replace('reader = ""', f"reader = {value}  # ours")
    site.settings_file.write_text(text, encoding="utf-8")
    site.with_data("busi", tmp_path)
    assert open_site_folder(site.path).settings.reader == "busi"
    assert 'reader = "busi"  # ours' in site.settings_file.read_text(encoding="utf-8")


def test_data_that_can_not_be_read_are_not_set(site, tmp_path):
    before = site.settings_file.read_bytes()
    with pytest.raises(SettingsError, match="there is no reader 'busy'; readers are busi"):
        site.with_data("busy", tmp_path)
    with pytest.raises(SettingsError, match="reader and data: set both or neither"):
        site.with_data("", tmp_path)
    with pytest.raises(RunError, match="missing is not a folder"):
        site.with_data("busi", tmp_path / "missing")
    assert site.settings_file.read_bytes() == before


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("runtime-port = 9194", "runtime-prot = 9194", r"site\.toml: unknown key 'runtime-prot'"),
        ('device = "auto"', 'device = "tpu"', r"device: .*'auto', 'cpu' or 'cuda'.*, not 'tpu'"),
        ('data = ""', 'data = "/data"', "reader and data: set both or neither"),
        ("min-images = 3", "min-images = 0", r"limits\.min-images: .*greater than or equal to 1, not 0"),
        ("min-images = 3", "least-images = 3", r"unknown key 'limits\.least-images'.*limits\.min-images"),
        ('data = ""', 'data = "data"', "data: 'data' is not an absolute path"),
        (f'hub = "{HUB}"', "", r"site\.toml: hub is missing"),
        ('name = "st-mary"', "name = st-mary", r"site\.toml is not a TOML file"),
    ],
)
def test_malformed_settings_are_named(site, old, new, words):
    text = site.settings_file.read_text(encoding="utf-8")
    assert text.count(f"\n{old}") == 1
    site.settings_file.write_text(text.replace(f"\n{old}", f"\n{new}"), encoding="utf-8")
    with pytest.raises(SettingsError, match=words):
        open_site_folder(site.path)
