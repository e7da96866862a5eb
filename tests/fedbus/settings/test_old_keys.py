"""Renamed settings keys: the old one still works, with a note."""

import pytest

from fedbus.errors import SettingsError
from fedbus.settings.load import load_settings
from fedbus.settings.old_keys import RENAMED, rename_old_keys
from fedbus.settings.schema import Settings, kebab


def test_every_old_key_has_a_current_one():
    keys = {kebab(name) for name in Settings.model_fields}
    assert set(RENAMED.values()) <= keys
    assert not set(RENAMED) & keys


def test_an_old_key_is_renamed_and_a_current_one_wins():
    assert rename_old_keys({"rounds": 3}) == ({"rounds": 3}, [])
    renamed, notes = rename_old_keys({"transport": "dict", "payload": "flat"})
    assert renamed == {"payload": "flat"}
    assert notes == ["The setting transport is now called payload; the old name works until version 0.3."]


def test_an_old_key_of_a_file_or_of_the_command_line_is_noted(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text('transport = "dict"\n')
    with pytest.warns(FutureWarning, match="transport is now called payload"):
        assert load_settings(path).payload == "dict"
    with pytest.warns(FutureWarning, match="marks is now called burned-in"):
        assert load_settings(overrides=["marks=masked"]).burned_in == "masked"


def test_a_wrong_value_of_an_old_key_is_an_error_of_the_current_one():
    with pytest.warns(FutureWarning), pytest.raises(SettingsError, match="payload: "):
        load_settings(overrides=["transport=pigeon"])
