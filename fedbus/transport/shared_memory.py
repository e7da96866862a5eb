"""Models that a message names instead of holding: for a simulation, whose server and sites share a file system.

A model in a message is pickled three times on its way to a worker and three times back. Here it is written once, in
memory where the machine has a shared one, and the message carries the name of the file.
"""

import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from fedbus.errors import RunError

SHARED_MEMORY = Path("/dev/shm")
"""Files in it are in memory, on Linux; elsewhere it is not there."""

NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class SharedArrays:
    """A folder that both ends of a message see; each file is one array."""

    folder: Path

    def put(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Write an array to a new file.

        Returns:
            The name of the file, in ASCII: uint8 [32].
        """
        name = uuid.uuid4().hex
        with (self.folder / f"{name}.part").open("wb") as file:
            np.save(file, array, allow_pickle=False)
        (self.folder / f"{name}.part").rename(self.folder / name)
        return np.frombuffer(name.encode(), dtype=np.uint8)

    def get(self, reference: NDArray[Any]) -> NDArray[Any]:
        """Map the array of a name; it may be changed, for the caller alone, and lives on when it is released.

        Raises:
            RunError: no file of this folder has that name.
        """
        name = bytes(reference).decode("ascii", "replace")
        if not NAME.fullmatch(name):
            raise RunError("A message of the simulation names no model.", "Run the same version of FedBUS everywhere.")
        try:
            mapped: NDArray[Any] = np.load(self.folder / name, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"The model of a message is not in {self.folder} any more ({error}).",
                "Go on with --resume; on a cluster, --out must lie on a disk that every node sees.",
            ) from error
        return mapped

    def clear(self) -> None:
        """Release every model; late answers to earlier messages too."""
        for path in self.folder.iterdir():
            path.unlink(missing_ok=True)


@contextmanager
def open_shared_arrays(nearby: Path, size: int, *, shared: bool) -> Iterator[SharedArrays]:
    """Make a folder for the models of one simulation, and remove it at the end.

    Args:
        nearby: a folder on disk, used where memory is no choice.
        size: bytes that must fit.
        shared: whether other machines must see the folder too.
    """
    folder = _in_memory(size) if not shared else None
    if folder is None:
        folder = nearby / "exchange"
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed
        folder.mkdir(parents=True)
    try:
        yield SharedArrays(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _in_memory(size: int) -> Path | None:
    """A new folder in shared memory that no other user can read; None where it does not fit."""
    if not SHARED_MEMORY.is_dir() or not os.access(SHARED_MEMORY, os.W_OK):
        return None
    for old in SHARED_MEMORY.glob("fedbus-*-*"):  # of runs that were killed
        owner = old.name.split("-")[1]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    if psutil.disk_usage(str(SHARED_MEMORY)).free < size:
        return None
    return Path(tempfile.mkdtemp(prefix=f"fedbus-{os.getpid()}-", dir=SHARED_MEMORY))
