"""Temporary folders that are deleted at the end of their process; if it is killed, by the next start or `fedbus clean`.

A folder belongs to a process, which keeps a file in it locked. The operating system releases the lock however the
process ends. The number of the process alone would not do: it may be used again, and means another process in another
container that shares the folder's parent.
"""

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import psutil
from filelock import lock_descriptor

from fedbus.errors import RunError
from fedbus.system.locks import is_held

SHARED_MEMORY = Path("/dev/shm")
"""A folder in memory; it exists on Linux only."""

PREFIX, RAY_PREFIX = "fedbus-", "fbray-"
"""How the names of temporary folders start; those of Ray must be short."""

OWNER_FILE = ".owner"
DELETE_TRIES, DELETE_PAUSE_SECONDS = 20, 0.1

_locks: dict[Path, IO[bytes]] = {}


@contextmanager
def scratch_folder(root: Path, prefix: str = PREFIX) -> Iterator[Path]:
    """Create a temporary folder and delete it at the end of the block."""
    folder = new_scratch_folder(root, prefix)
    try:
        yield folder
    finally:
        delete_scratch_folder(folder)


def new_scratch_folder(root: Path, prefix: str = PREFIX) -> Path:
    """Delete the folders of killed processes in `root`, then create a new one that only this user can enter."""
    delete_abandoned(root, prefix)
    folder = Path(tempfile.mkdtemp(prefix=f"{prefix}{os.getpid()}-", dir=root))
    # Locked under another name: a file of the final name was locked, so it is free only if its process has ended.
    file = (folder / f"{OWNER_FILE}.new").open("wb")
    with suppress(OSError):  # a file system without locks; then only the number of the process counts
        lock_descriptor(file.fileno(), blocking=False)
        (folder / f"{OWNER_FILE}.new").rename(folder / OWNER_FILE)
    _locks[folder] = file
    return folder


def delete_scratch_folder(folder: Path) -> None:
    """Delete a folder of this process; its children may still be writing to it, so this tries for a while."""
    if (file := _locks.pop(folder, None)) is not None:
        file.close()
    for attempt in range(DELETE_TRIES):
        if attempt:
            time.sleep(DELETE_PAUSE_SECONDS)
        with suppress(OSError):
            shutil.rmtree(folder)
        if not folder.exists():
            return


def delete_abandoned(root: Path, prefix: str = PREFIX) -> dict[Path, int]:
    """Delete the temporary folders in `root` whose process was killed; return their sizes in bytes."""
    deleted = {}
    for folder in sorted(root.glob(f"{prefix}*-*")):
        if _is_abandoned(folder, prefix):
            size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                deleted[folder] = size
    return deleted


def delete_all_abandoned() -> dict[Path, int]:
    """Delete what killed processes of this user left in shared memory and in the folders for temporary files."""
    roots = dict.fromkeys([SHARED_MEMORY, Path(tempfile.gettempdir()), Path("/tmp")])
    deleted: dict[Path, int] = {}
    for root in (root for root in roots if root.is_dir()):
        for prefix in (PREFIX, RAY_PREFIX):
            deleted |= delete_abandoned(root, prefix)
    return deleted


def _is_abandoned(folder: Path, prefix: str) -> bool:
    """Whether a folder is one of this user's, and its process has ended."""
    owner = folder.name.removeprefix(prefix).split("-")[0]
    try:
        if not owner.isdigit() or not _is_own_folder(folder):
            return False
        if (folder / OWNER_FILE).exists():
            return not is_held(folder / OWNER_FILE)
        return not psutil.pid_exists(int(owner))
    except (OSError, RunError):  # deleted by another process, or not readable
        return False


def _is_own_folder(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return False
    return not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
