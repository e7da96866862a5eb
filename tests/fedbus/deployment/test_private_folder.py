"""Folders with keys."""

import os
import stat
from pathlib import Path

import pytest
from pydantic import TypeAdapter

from fedbus.deployment.private_folder import (
    need_file,
    need_private_file,
    new_folder,
    read_bytes,
    read_validated_json,
    write_private,
)
from fedbus.errors import RunError


def test_a_folder_appears_when_it_is_finished_and_not_before(tmp_path):
    path = tmp_path / "a" / "new"
    with new_folder(path) as draft:
        assert not path.exists()
        assert stat.S_IMODE(draft.stat().st_mode) == 0o700
        (draft / "x").write_text("1")
    assert (path / "x").read_text() == "1"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), RunError("a", "b")])
def test_an_unfinished_folder_is_deleted(tmp_path, failure):
    def make() -> None:
        with new_folder(tmp_path / "new") as draft:
            (draft / "sub").mkdir()
            (draft / "sub" / "x").write_text("1")
            raise failure

    with pytest.raises(RunError if isinstance(failure, OSError) else type(failure)):
        make()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_another_process_created_is_left_unchanged(tmp_path):
    def make() -> None:
        with new_folder(tmp_path / "new") as draft:
            (draft / "x").write_text("mine")
            (tmp_path / "new").mkdir()
            (tmp_path / "new" / "x").write_text("theirs")

    with pytest.raises(RunError, match="could not be created"):
        make()
    assert [(path.name, path.read_text()) for path in tmp_path.rglob("*") if path.is_file()] == [("x", "theirs")]


def test_a_folder_below_a_file_cannot_be_created(tmp_path):
    (tmp_path / "file").write_text("x")
    with (
        pytest.raises(RunError, match=r"file/new could not be created \(File exists\)"),
        new_folder(tmp_path / "file/new"),
    ):
        pytest.fail("there is no such folder")


@pytest.mark.parametrize("mask", [0, 0o077, 0o022])
def test_only_the_owner_can_read_a_private_file_under_every_umask(tmp_path, mask):
    before = os.umask(mask)
    try:
        write_private(tmp_path / "key", b"secret")
    finally:
        os.umask(before)
    assert (tmp_path / "key").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    need_private_file(tmp_path / "key", "")


@pytest.mark.parametrize("bit", [0o040, 0o020, 0o010, 0o004, 0o002, 0o001])
def test_any_right_of_others_makes_a_key_unusable(tmp_path, bit):
    write_private(tmp_path / "key", b"secret")
    (tmp_path / "key").chmod(0o600 | bit)
    with pytest.raises(RunError, match=rf"others can read it \(mode {0o600 | bit:o}\)\. Run `chmod 600 .*key`"):
        need_private_file(tmp_path / "key", "")


def test_a_missing_file_is_an_error_with_the_given_remedy(tmp_path):
    for need in (need_file, need_private_file):
        with pytest.raises(RunError, match=r"x is missing\. Fetch it\."):
            need(tmp_path / "x", "Fetch it.")
    with pytest.raises(RunError, match="is missing"):
        need_file(tmp_path, "A folder is no file.")


def test_an_unreadable_file_is_an_error(tmp_path, monkeypatch):
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refuse)
    monkeypatch.setattr(Path, "read_bytes", refuse)
    for read in (read_bytes, lambda path: need_file(path, "")):
        with pytest.raises(RunError, match=r"x can't be read \(Permission denied\).*run as the user who owns the file"):
            read(tmp_path / "x")


def test_json_is_checked_against_its_layout(tmp_path):
    (tmp_path / "a.json").write_text('{"é": 1}', encoding="utf-8")
    assert read_validated_json(tmp_path / "a.json", TypeAdapter(dict[str, int])) == {"é": 1}
    for layout in (list[int], dict[str, list[int]]):
        with pytest.raises(RunError, match=r"a\.json is damaged: .*valid (array|list)"):
            read_validated_json(tmp_path / "a.json", TypeAdapter(layout))
    (tmp_path / "a.json").write_bytes(b"\xff")
    with pytest.raises(RunError, match=r"a\.json is damaged"):
        read_validated_json(tmp_path / "a.json", TypeAdapter(list[int]))
