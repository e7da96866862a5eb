"""Models that messages refer to: read unchanged, only from their folder, and deleted at the end; files are reused."""

import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from fedbus.errors import RunError
from fedbus.transport import shared_memory
from fedbus.transport.shared_memory import SharedArrays, open_shared_arrays

ARRAY = np.arange(7, dtype=np.float16)


def as_name(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-8", "surrogateescape"), dtype=np.uint8)


@pytest.mark.parametrize("array", [ARRAY, np.ones((2, 3)), np.array(2.5, dtype=np.float32)])
def test_an_array_is_read_unchanged_and_its_reference_has_32_bytes(array, tmp_path):
    store = SharedArrays(tmp_path)
    first, second = store.put(array), store.put(ARRAY)
    assert first.nbytes == 32
    found = store.get(first)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)
    np.testing.assert_array_equal(store.get(second), ARRAY)


def test_a_read_array_is_private_and_stays_valid_after_clear(tmp_path):
    store = SharedArrays(tmp_path)
    name = store.put(ARRAY)
    mine, other = store.get(name), store.get(name)
    mine[:] = 0
    np.testing.assert_array_equal(store.get(name), ARRAY)
    store.clear()
    np.testing.assert_array_equal(other, ARRAY)


def files(folder: Path) -> set[int]:
    """The files below a folder, by the numbers that tell them apart whatever their names."""
    return {path.stat().st_ino for path in folder.rglob("*") if path.is_file()}


def test_a_taken_array_is_written_again_only_when_nothing_refers_to_it(tmp_path):
    store = SharedArrays(tmp_path)
    taken = store.take(store.put(ARRAY))
    first = files(tmp_path)
    view = np.asarray(taken[2:4])
    del taken
    store.clear()
    store.put(np.zeros(7, dtype=np.float16))  # `view` still refers to the first file
    assert len(files(tmp_path)) == 2
    np.testing.assert_array_equal(view, ARRAY[2:4])
    store.clear()
    assert files(tmp_path) == first
    del view
    longer = np.arange(1000.0)
    np.testing.assert_array_equal(store.get(store.put(longer)), longer)
    assert files(tmp_path) == first


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_arrays_are_joined_in_their_order(dtype, tmp_path):
    store = SharedArrays(tmp_path)
    store.take(store.put(np.arange(1000.0)))  # its file is written again
    square = np.arange(12, dtype=dtype).reshape(3, 4)
    arrays = [square, square.T, square[:, ::2], np.array(0.5, dtype), np.empty((0, 2), dtype)]
    found = store.take(store.put_joined(arrays))
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.concatenate([array.ravel() for array in arrays]))


@pytest.mark.parametrize("array", [np.arange(3), np.ones((2, 3)), np.array(2.5, dtype=np.float32)])
def test_a_file_that_is_written_again_has_only_the_new_array(array, tmp_path):
    store = SharedArrays(tmp_path)
    store.take(store.put(np.arange(1000.0)))
    name = store.put(array)
    assert (tmp_path / bytes(name).decode()).stat().st_size < 1000
    found = store.take(name)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array)


def test_an_array_is_taken_once(tmp_path):
    store = SharedArrays(tmp_path)
    name = store.put(ARRAY)
    taken = store.take(name)
    for read in (store.take, store.get):
        with pytest.raises(RunError, match="no longer contains"):
            read(name)
    np.testing.assert_array_equal(taken, ARRAY)


def test_an_array_that_is_freed_after_its_folder_was_deleted_leaves_nothing(tmp_path, capsys):
    store = SharedArrays(tmp_path / "models")
    store.folder.mkdir()
    taken = store.take(store.put(ARRAY))
    shutil.rmtree(store.folder)
    del taken
    assert not store.folder.exists()
    assert capsys.readouterr().err == ""  # where Python reports an error in a finaliser


def test_another_process_can_read_an_array(tmp_path):
    name = SharedArrays(tmp_path).put(np.arange(5))
    code = (
        "import sys, numpy as np; from pathlib import Path; from fedbus.transport.shared_memory import SharedArrays\n"
        "name = np.frombuffer(sys.argv[2].encode(), dtype=np.uint8)\n"
        "print(SharedArrays(Path(sys.argv[1])).get(name).sum())"
    )
    output = subprocess.check_output([sys.executable, "-c", code, str(tmp_path), bytes(name).decode()])
    assert int(output) == 10


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "g" * 32, "a" * 31, "A" * 32, "\udcff"])
def test_an_invalid_reference_opens_no_file(name, tmp_path):
    (tmp_path / "a").write_text("secret")
    with pytest.raises(RunError, match="refers to no model"):
        SharedArrays(tmp_path).get(as_name(name))


def test_a_deleted_array_raises_an_error(tmp_path):
    store = SharedArrays(tmp_path)
    name = store.put(ARRAY)
    store.clear()
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RunError, match="no longer contains"):
        store.get(name)


def test_the_folder_in_memory_is_private_and_removed_at_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "memory")
    (tmp_path / "memory").mkdir()

    def interrupted() -> None:
        with open_shared_arrays(tmp_path / "run", 10, shared=False) as store:
            store.put(ARRAY)
            assert store.folder.parent == tmp_path / "memory"
            assert store.folder.stat().st_mode & 0o077 == 0
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list((tmp_path / "memory").iterdir()) == []
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("reason", ["shared", "full", "absent"])
def test_without_usable_memory_the_run_folder_is_used(reason, tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path / "memory")
    if reason != "absent":
        (tmp_path / "memory").mkdir()
    if reason == "full":
        usage = namedtuple("Usage", "free")
        monkeypatch.setattr(shared_memory.psutil, "disk_usage", lambda path: usage(9))
    left = tmp_path / "run" / "exchange" / "left by a run that was killed"
    left.parent.mkdir(parents=True)
    left.touch()
    with open_shared_arrays(tmp_path / "run", 10, shared=reason == "shared") as store:
        assert store.folder == tmp_path / "run" / "exchange"
        assert list(store.folder.iterdir()) == []
        np.testing.assert_array_equal(store.get(store.put(ARRAY)), ARRAY)
    assert list((tmp_path / "run").iterdir()) == []


def test_folders_of_killed_runs_are_removed_from_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(shared_memory, "SHARED_MEMORY", tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    for name in (f"fedbus-{ended.pid}-x", f"fedbus-{os.getppid()}-x", "fedbus-own-x", "other-1-x"):
        (tmp_path / name).mkdir()
    with open_shared_arrays(Path("unused"), 1, shared=False) as store:
        found = {path.name for path in tmp_path.iterdir()} - {store.folder.name}
    assert found == {f"fedbus-{os.getppid()}-x", "fedbus-own-x", "other-1-x"}
