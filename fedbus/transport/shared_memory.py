"""Models that a message refers to instead of containing them, for simulations: server and sites share a file system.

A model in a message is pickled three times on its way to a worker and three times back. Here it is written once, into
shared memory where there is enough, and the message carries the name of the file.
"""

import os
import re
import shutil
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
from fedbus.system.scratch import SHARED_MEMORY, delete_abandoned, delete_scratch_folder, new_scratch_folder

NAME = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class SharedArrays:
    """A folder that sender and receiver can both read; each file is one array."""

    folder: Path

    def put(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Write an array to a new file.

        Returns:
            The name of the file in ASCII, uint8 [32].
        """
        name = uuid.uuid4().hex
        with (self.folder / f"{name}.part").open("wb") as file:
            np.save(file, array, allow_pickle=False)
        (self.folder / f"{name}.part").rename(self.folder / name)
        return np.frombuffer(name.encode(), dtype=np.uint8)

    def get(self, reference: NDArray[Any]) -> NDArray[Any]:
        """Map the array with this name into memory.

        Writes to it are visible only to the caller, and it stays valid after `clear`.

        Raises:
            RunError: If the folder contains no file of that name.
        """
        name = bytes(reference).decode("ascii", "replace")
        if not NAME.fullmatch(name):
            raise no_reference()
        try:
            mapped: NDArray[Any] = np.load(self.folder / name, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise RunError(
                f"{self.folder} no longer contains the model that a message refers to ({error}).",
                "Rerun with --resume; on a cluster, --out must be on a disk that every node can read.",
            ) from error
        return mapped

    def clear(self) -> None:
        """Delete all arrays, including those of late replies to earlier messages."""
        for path in self.folder.glob("[!.]*"):  # hidden files mark whose folder it is
            path.unlink(missing_ok=True)


def no_reference() -> RunError:
    """Return the error for a message that does not refer to a model."""
    return RunError("A message of the simulation refers to no model.", "Run the same version of FedBUS everywhere.")


@contextmanager
def open_shared_arrays(nearby: Path, size: int, *, shared: bool) -> Iterator[SharedArrays]:
    """Create a folder for the models of one simulation, and delete it at the end.

    Args:
        nearby: A folder on disk, used if shared memory can't be.
        size: How many bytes must fit.
        shared: Whether other machines must be able to read the folder.
    """
    folder = _folder_in_memory(size) if not shared else None
    if folder is None:
        folder = nearby / "exchange"
        shutil.rmtree(folder, ignore_errors=True)  # may be left from a run that was killed
        folder.mkdir(parents=True)
    try:
        yield SharedArrays(folder)
    finally:
        delete_scratch_folder(folder)


def _folder_in_memory(size: int) -> Path | None:
    """Create a folder in shared memory that only this user can read; None if there is not enough memory."""
    if not SHARED_MEMORY.is_dir() or not os.access(SHARED_MEMORY, os.W_OK):
        return None
    delete_abandoned(SHARED_MEMORY)  # before the free memory is counted
    if psutil.disk_usage(str(SHARED_MEMORY)).free < size:
        return None
    return new_scratch_folder(SHARED_MEMORY)
