"""Settings files with comments."""

import tomllib
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from fedbus.deployment.settings_file import (
    FileSettings,
    build_file_settings,
    parse_settings_file,
    read_settings_file,
    replace_values,
    settings_file_text,
)
from fedbus.errors import SettingsError


class Sample(FileSettings):
    some_name: str = Field(description="A name. " * 20)
    count: int = Field(3, ge=1, description="How many.")
    kind: Literal["a", "b"] = Field("a", description="Which.")


STRINGS = ["", "plain", 'a "quoted" \\ word', "# no comment", "é\u2028\U0001f600", "tab\t and \x7f and \x01", "= 'x'"]


@pytest.mark.parametrize("value", STRINGS)
def test_what_is_written_is_what_is_read(tmp_path, value):
    settings = Sample(some_name=value, count=7, kind="b")
    (tmp_path / "x.toml").write_text(settings_file_text(settings, "Title"), encoding="utf-8")
    assert read_settings_file(tmp_path / "x.toml", Sample) == settings


def test_every_key_is_below_its_description():
    lines = settings_file_text(Sample(some_name="x"), "One.\nTwo.").splitlines()
    assert lines[:3] == ["# One.", "# Two.", ""]
    assert lines[-5:] == ["# How many.", "count = 3", "", "# Which.", 'kind = "a"']
    assert " ".join(line.removeprefix("# ") for line in lines[3:-7]) == ("A name. " * 20).strip()
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize("old", ['""', "''", '"a # \\" b"', "'a # b'", "3", "true", '"""\na\n"""', "'''b'''"])
@pytest.mark.parametrize("new", [*STRINGS, 5])
def test_a_value_is_replaced_and_all_else_is_unchanged(old, new):
    text = f"# key = 1\nother-key = 1\n \tkey\t= {old}  # why\nkey2 = 2\n"
    changed = replace_values(text, {"key": new})
    assert tomllib.loads(changed) == {"other-key": 1, "key": new, "key2": 2}
    before, after = text.split(f"= {old}", 1)
    assert changed.startswith(f"{before}= ")
    assert changed.endswith(after)


def test_a_missing_key_is_added_at_the_end():
    assert replace_values("# key = 1\na = 1", {"key": "x", "a": 2}) == '# key = 1\na = 2\nkey = "x"\n'
    changed = replace_values("a = 1\n[table]\nkey = 1\n", {"key": "x"})
    assert tomllib.loads(changed) == {"a": 1, "key": "x", "table": {"key": 1}}


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, r"some-name is missing\. .*keys are some-name, count, kind"),
        ({"some-name": "x", "cuont": 1}, r"unknown key 'cuont'\. .*keys are some-name, count, kind"),
        ({"some-name": 1}, r"some-name: .*valid string, not 1"),
        ({"some-name": "x", "count": "3"}, r"count: .*valid integer, not '3'"),
        ({"some-name": "x", "count": True}, r"count: .*valid integer, not True"),
        ({"some-name": "x", "count": 3.0}, r"count: .*valid integer, not 3\.0"),
        ({"some-name": "x", "kind": "c"}, r"kind: .*'a' or 'b'.*, not 'c'"),
        ({"some-name": 1, "count": 0}, r"some-name: .*; count: .*"),
    ],
)
def test_errors_name_the_key(values, words):
    with pytest.raises(SettingsError, match="here: .*" + words):
        build_file_settings(Sample, values, "here")


def test_a_file_that_is_not_toml_is_named(tmp_path):
    with pytest.raises(SettingsError, match=r"x\.toml is not a TOML file \(.*line 2"):
        parse_settings_file("a = 1\nb =\n", Sample, Path("x.toml"))
    with pytest.raises(SettingsError, match=r"x\.toml can't be read"):
        read_settings_file(tmp_path / "x.toml", Sample)
    (tmp_path / "x.toml").write_bytes(b"\xff")
    with pytest.raises(SettingsError, match=r"x\.toml can't be read"):
        read_settings_file(tmp_path / "x.toml", Sample)


def test_a_path_that_is_not_unicode_is_refused():
    with pytest.raises(SettingsError, match="is not Unicode text"):
        replace_values("", {"key": "\udcff"})
