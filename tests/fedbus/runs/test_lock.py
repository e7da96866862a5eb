"""One process at a time uses a run folder, only its owner can read it, and bad input leaves none behind."""

import os
import stat
import warnings
from pathlib import Path

import pytest

from fedbus.errors import FedbusWarning, RunError, SettingsError
from fedbus.runs.folder import open_run
from fedbus.runs.lock import RUNNING, hold_folder
from fedbus.system.files import delete_fragments, make_private_folder, write_whole
from fedbus.system.locks import is_held
from tests.tiny import start_run, tiny_settings


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def fail(out: Path, error: BaseException, *, write: bool = False, resume: bool = False) -> None:
    """Use a run folder as a process does that ends with an error, perhaps after it has written something."""

    def use() -> None:
        with open_run(out, tiny_settings(), resume=resume):
            if write:
                (out / "splits").mkdir(exist_ok=True)
            raise error

    with pytest.raises(type(error)):
        use()


def test_a_second_process_is_refused_by_number_and_changes_nothing(tmp_path):
    out = tmp_path / "run"
    with open_run(out, tiny_settings(), resume=False):
        before = {path: path.read_bytes() for path in out.iterdir()}
        with pytest.raises(RunError, match=rf"{out} is in use, by process {os.getpid()}\."):
            start_run(out, tiny_settings(), resume=True)
        assert {path: path.read_bytes() for path in out.iterdir()} == before
    assert not is_held(out / RUNNING)
    start_run(out, tiny_settings(), resume=True)


def test_a_folder_that_another_process_filled_in_the_meantime_is_refused(tmp_path):
    calls = []

    def check() -> None:
        calls.append(len(calls))
        if len(calls) == 2:
            raise RunError("It contains a run.", "Choose another.")

    with pytest.raises(RunError, match="contains a run"), hold_folder(tmp_path / "run", check):
        pytest.fail("it was used")
    assert not (tmp_path / "run").exists()


def test_bad_input_leaves_no_folder_and_a_kill_leaves_a_run_to_resume(tmp_path):
    error = SettingsError("It is wrong.", "Correct it.")
    fail(tmp_path / "new", error)
    assert not (tmp_path / "new").exists()
    fail(tmp_path / "written", error, write=True)
    start_run(tmp_path / "written", tiny_settings(), resume=True)
    fail(tmp_path / "stopped", KeyboardInterrupt())
    start_run(tmp_path / "stopped", tiny_settings(), resume=True)
    fail(tmp_path / "stopped", error, resume=True)
    start_run(tmp_path / "stopped", tiny_settings(), resume=True)


def test_a_process_that_was_killed_before_it_recorded_its_run_blocks_no_later_one(tmp_path):
    (tmp_path / RUNNING).write_text("1")
    (tmp_path / ".settings.json.abcd_123.json").write_text("{")
    start_run(tmp_path, tiny_settings(), resume=False)


def test_the_folder_is_closed_to_others(tmp_path):
    tmp_path.chmod(0o755)
    previous = os.umask(0o022)
    try:
        (tmp_path / "empty").mkdir()
        for name in ("new", "empty", "deeper/new"):
            start_run(tmp_path / name, tiny_settings(), resume=False)
            assert mode(tmp_path / name) == 0o700
    finally:
        os.umask(previous)


def test_a_folder_that_its_owner_shares_stays_open_with_a_note(tmp_path, monkeypatch):
    monkeypatch.setattr("fedbus.system.files.ENTER", 0)  # as if no parent were closed, which those of tests are
    folder = tmp_path / "shared folder"
    folder.mkdir(mode=0o755)
    (folder / "file").touch()
    folder.chmod(0o755)
    monkeypatch.setattr(Path, "parents", property(lambda path: []))
    with pytest.warns(FedbusWarning, match=r"mode 755.*chmod 700 '.*shared folder'"):
        make_private_folder(folder)
    assert mode(folder) == 0o755


def test_a_folder_in_a_closed_one_needs_no_note(tmp_path):
    (tmp_path / "closed" / "open").mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    (tmp_path / "closed" / "open").chmod(0o755)
    (tmp_path / "closed" / "open" / "file").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        make_private_folder(tmp_path / "closed" / "open")


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="can't be read"):
        start_run(tmp_path / "file", tiny_settings(), resume=False)
    with pytest.raises(RunError, match="could not be written"):
        start_run(tmp_path / "file" / "run", tiny_settings(), resume=False)


@pytest.mark.skipif(os.name != "posix" or os.getuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_an_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(RunError, match="could not be written"):
        start_run(tmp_path / "closed" / "run", tiny_settings(), resume=False)


def test_files_that_a_killed_process_did_not_finish_are_deleted_and_no_others(tmp_path):
    class KilledError(BaseException):
        pass

    def write(temporary: Path) -> None:
        names.append(temporary.name)
        raise KilledError

    names: list[str] = []
    with pytest.raises(KilledError):
        write_whole(tmp_path / "arms" / "checkpoint.safetensors", write)
    for name in (names[0], ".running", ".hidden.txt", "a.abcd1234.txt"):
        (tmp_path / "arms" / name).touch()
    delete_fragments(tmp_path)
    assert {path.name for path in (tmp_path / "arms").iterdir()} == {".running", ".hidden.txt", "a.abcd1234.txt"}
