"""Temporary folders of a killed process are deleted by the next one, and only those."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedbus.cli import app
from fedbus.system import scratch
from fedbus.system.scratch import (
    OWNER_FILE,
    delete_abandoned,
    delete_all_abandoned,
    delete_scratch_folder,
    new_scratch_folder,
    scratch_folder,
)

ROOT = Path(__file__).resolve().parents[3]

OWNER = """
import sys, time
from pathlib import Path
from fedbus.system.scratch import new_scratch_folder
for prefix in sys.argv[2:]:
    folder = new_scratch_folder(Path(sys.argv[1]), prefix)
    (folder / "model").write_bytes(bytes(1000))
print("ready", flush=True)
time.sleep(60)
"""


def start_owner(root: Path, *prefixes: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(root), *prefixes], cwd=ROOT, text=True, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


def test_a_folder_is_private_and_deleted_at_the_end_of_its_block(tmp_path):
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
    assert not any(tmp_path.iterdir())


def test_the_next_process_deletes_what_a_killed_one_left_and_not_what_a_running_one_uses(tmp_path):
    running, killed = start_owner(tmp_path, "fedbus-"), start_owner(tmp_path, "fedbus-", "fbray-")
    try:
        kept = {path for path in tmp_path.iterdir() if f"-{running.pid}-" in path.name}
        kill(killed)
        left = set(tmp_path.iterdir()) - kept
        assert len(left) == 2
        own = new_scratch_folder(tmp_path)
        assert set(tmp_path.iterdir()) == kept | {own} | {path for path in left if path.name.startswith("fbray-")}
        assert len(kept) == 1
        delete_scratch_folder(own)
    finally:
        kill(running)


def test_a_folder_whose_process_number_is_used_again_is_deleted(tmp_path):
    left = tmp_path / f"fedbus-{os.getpid()}-abc"
    left.mkdir()
    assert delete_abandoned(tmp_path) == {}  # this process is about to lock it
    (left / OWNER_FILE).touch()  # it was locked once, and no process holds the lock
    assert list(delete_abandoned(tmp_path)) == [left]


def test_a_folder_of_a_process_in_another_container_is_kept(tmp_path):
    """There, its process has a number that means nothing here."""
    folder = new_scratch_folder(tmp_path)
    elsewhere = folder.rename(tmp_path / "fedbus-999999999-abc")
    assert delete_abandoned(tmp_path) == {}
    assert elsewhere.is_dir()
    delete_scratch_folder(folder)  # releases the lock


def test_other_folders_and_links_are_never_touched(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "fedbus-mine-1").mkdir()
    (tmp_path / "fedbus-999999999-file").touch()
    (tmp_path / "fedbus-999999998-link").symlink_to(tmp_path / "data")
    before = set(tmp_path.iterdir())
    assert delete_abandoned(tmp_path) == {}
    assert set(tmp_path.iterdir()) == before


def test_clean_deletes_and_names_what_killed_processes_left_everywhere(tmp_path, monkeypatch):
    memory, temporary = tmp_path / "memory", tmp_path / "temporary"
    for root, prefix in ((memory, "fedbus-"), (temporary, "fbray-")):
        root.mkdir()
        kill(start_owner(root, prefix))
    monkeypatch.setattr(scratch, "SHARED_MEMORY", memory)
    monkeypatch.setattr(scratch.tempfile, "gettempdir", lambda: str(temporary))
    left = [*memory.iterdir(), *temporary.iterdir()]
    done = CliRunner().invoke(app, ["clean"])
    assert done.exit_code == 0
    assert len(left) == 2
    for folder in left:
        assert f"Deleted {folder} (0.0 MB)." in done.output
        assert not folder.exists()
    assert not {path for path in delete_all_abandoned() if tmp_path in path.parents}


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="only root can give a folder to another user")
def test_folders_of_other_users_are_kept(tmp_path):
    left = tmp_path / "fedbus-999999999-abc"
    left.mkdir()
    os.chown(left, 12345, 12345)
    assert delete_abandoned(tmp_path) == {}
    assert left.is_dir()
