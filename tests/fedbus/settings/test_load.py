"""Settings files, `--set` and `--site`: what is read, how it is spelt, and the errors of malformed ones."""

from pathlib import Path

import pytest

from fedbus.errors import SettingsError
from fedbus.settings.load import load_settings, parse_sites, parse_value


def write(folder: Path, text: str, name: str = "settings.toml") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def refusal(text: str, folder: Path) -> str:
    with pytest.raises(SettingsError) as caught:
        load_settings(write(folder, text))
    return str(caught.value)


def test_a_file_is_read_with_its_kebab_keys(tmp_path):
    settings = load_settings(
        write(
            tmp_path,
            """
            image-size = 64
            learning-rate = 1e-3
            missing-classes = "plain"
            arms = ["local", "fedavg"]
            seeds = [3, 1]
            [sites.north]
            reader = "busi"
            path = "archives/BUSI"
            [strategy-options.fedadam]
            eta = 0.1
            """,
        )
    )
    assert (settings.image_size, settings.learning_rate, settings.missing_classes) == (64, 1e-3, "plain")
    assert (settings.arms, settings.seeds) == (("local", "fedavg"), (3, 1))
    assert settings.sites["north"].reader == "busi"
    assert settings.strategy_options == {"fedadam": {"eta": 0.1}}


def test_relative_paths_in_a_file_start_at_the_file(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    text = 'weights = "w.safetensors"\ncache = "../cache"\n[sites.a]\nreader = "busi"\npath = "../BUSI"\n'
    settings = load_settings(write(tmp_path / "studies", text))
    assert settings.sites["a"].path == tmp_path / "BUSI"
    assert settings.weights == str(tmp_path / "studies" / "w.safetensors")
    assert settings.cache == tmp_path / "cache"


@pytest.mark.parametrize("word", ["imagenet", "none"])
def test_words_for_weights_are_not_read_as_files(tmp_path, word):
    assert load_settings(write(tmp_path, f'weights = "{word}"')).weights == word


def test_the_cache_is_absolute_wherever_it_was_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert load_settings(overrides=["cache=here"]).cache == tmp_path / "here"
    assert load_settings(overrides=["cache=~/there"]).cache == tmp_path / "home" / "there"


def test_overrides_win_over_the_file_and_later_ones_over_earlier_ones(tmp_path):
    path = write(tmp_path, "rounds = 3\nfolds = 4")
    settings = load_settings(path, ["rounds=5", "rounds = 7"])
    assert (settings.rounds, settings.folds) == (7, 4)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3), ("true", True), ("0.5", 0.5), ("[0, 1]", [0, 1]), ('"x y"', "x y"),
        ("fedavg", "fedavg"), ("local,fedavg", "local,fedavg"), ("/a/b.pth", "/a/b.pth"), ("", ""), ("[1", "[1"),
    ],
)  # fmt: skip
def test_a_value_is_toml_or_else_a_string(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize("text", ["sites = 3", "sites = [1]", "[sites]\nnorth = 3", "[sites]\nnorth = 'BUSI'"])
def test_sites_that_are_not_tables_are_a_settings_error(tmp_path, text):
    assert "sites" in refusal(text, tmp_path)


def test_malformed_files_are_named_with_the_line(tmp_path):
    assert "line 2" in refusal("rounds = 3\nfolds = = 4", tmp_path)
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "binary.toml", tmp_path, tmp_path / "missing.toml"):
        with pytest.raises(SettingsError, match=path.name):
            load_settings(path)


def test_an_override_without_a_value_is_refused():
    with pytest.raises(SettingsError, match="KEY=VALUE"):
        load_settings(overrides=["rounds"])


def test_one_key_in_two_spellings_is_refused_rather_than_half_ignored(tmp_path):
    with pytest.raises(SettingsError, match="image_size"):
        load_settings(write(tmp_path, "image-size = 64"), ["image_size=32"])


def test_sites_of_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a:b").mkdir()
    found = parse_sites(["busi=BUSI", "north=bus-bra:data/x", "odd=a:b"])
    assert found["busi"] == {"reader": "busi", "path": str(tmp_path / "BUSI")}
    assert found["north"] == {"reader": "bus-bra", "path": str(tmp_path / "data/x")}
    assert found["odd"] == {"reader": "odd", "path": str(tmp_path / "a:b")}
    assert set(load_settings(sites=["busi=BUSI"]).sites) == {"busi"}


def test_two_sites_of_one_name_are_refused():
    with pytest.raises(SettingsError, match=r"called busi.*NAME=READER:FOLDER"):
        parse_sites(["busi=a", "busi=b"])


@pytest.mark.parametrize("spec", ["busi", "=x", "busi="])
def test_a_site_without_name_or_path_is_refused(spec):
    with pytest.raises(SettingsError, match="READER=FOLDER"):
        parse_sites([spec])
