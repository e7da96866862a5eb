"""Models that a message refers to instead of containing them, for simulations: server and sites share a file system.

A model in a message is pickled three times on its way to a worker and three times back. Here it is written once, into
shared memory where there is enough, and the message carries the name of the file. Files whose array nobody uses any
more are written again: new ones would take most of the time, because the operating system clears their memory first.
"""

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO
from weakref import finalize

import numpy as np
import psutil
from numpy.lib.format import dtype_to_descr, write_array_header_1_0
from numpy.typing import NDArray

from fedbus.errors import RunError
from fedbus.system.scratch import SHARED_MEMORY, delete_abandoned, delete_scratch_folder, new_scratch_folder

NAME = re.compile(r"[0-9a-f]{32}")

FREE = ".free"
"""The folder of files that can be written again."""


@dataclass(frozen=True)
class SharedArrays:
    """A folder that sender and receiver can both read; each file is one array."""

    folder: Path

    def put(self, array: NDArray[Any]) -> NDArray[np.uint8]:
        """Write an array to a file with a new name.

        Returns:
            The name of the file in ASCII, uint8 [32].
        """
        return self._write(lambda file: np.save(file, array, allow_pickle=False))

    def put_joined(self, arrays: Iterable[NDArray[Any]]) -> NDArray[np.uint8]:
        """Write all values of some arrays, at least one and all of one type, as one array, without joining them first.

        Returns:
            The name of the file, as `put`.
        """
        parts = [np.ascontiguousarray(array) for array in arrays]
        (descr,) = {dtype_to_descr(part.dtype) for part in parts}
        header = {"descr": descr, "fortran_order": False, "shape": (sum(part.size for part in parts),)}

        def write(file: BinaryIO) -> None:
            write_array_header_1_0(file, header)
            file.writelines(part.data for part in parts)

        return self._write(write)

    def _write(self, write: Callable[[BinaryIO], object]) -> NDArray[np.uint8]:
        name = uuid.uuid4().hex
        unfinished = self.folder / f"{name}.part"
        with unfinished.open("r+b" if self._claim(unfinished) else "wb") as file:
            write(file)
            file.truncate()  # it may have been longer
        unfinished.rename(self.folder / name)
        return np.frombuffer(name.encode(), dtype=np.uint8)

    def get(self, reference: NDArray[Any]) -> NDArray[Any]:
        """Map the array with this name into memory.

        Writes to it are visible only to the caller, and it stays valid after `clear`.

        Raises:
            RunError: If the folder contains no file of that name.
        """
        return self._map(self._path(reference))

    def take(self, reference: NDArray[Any]) -> NDArray[Any]:
        """Do the same as the only receiver of the array: its file can be written again once nothing refers to it.

        Raises:
            RunError: If the folder contains no file of that name.
        """
        path = self._path(reference)
        taken = path.with_name(f".{path.name}")  # hidden, so that `clear` leaves it
        try:
            path.rename(taken)
        except OSError as error:
            raise self._missing(error) from error
        array = self._map(taken)
        # All views of the array refer to the mapping, which is its base.
        finalize(array.base, _free, taken, self.folder / FREE / path.name).atexit = False
        return array

    def clear(self) -> None:
        """Delete all arrays that are not taken, including those of late replies to earlier messages."""
        for path in self.folder.glob("[!.]*"):  # hidden files mark whose folder it is
            path.unlink(missing_ok=True)

    def _path(self, reference: NDArray[Any]) -> Path:
        name = bytes(reference).decode("ascii", "replace")
        if not NAME.fullmatch(name):
            raise no_reference()
        return self.folder / name

    def _map(self, path: Path) -> NDArray[Any]:
        try:
            mapped: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise self._missing(error) from error
        return mapped

    def _missing(self, error: Exception) -> RunError:
        return RunError(
            f"{self.folder} no longer contains the model that a message refers to ({error}).",
            "Rerun with --resume; on a cluster, --out must be on a disk that every node can read.",
        )

    def _claim(self, path: Path) -> bool:
        """Move a file that can be written again to a path, if there is one."""
        with suppress(FileNotFoundError), os.scandir(self.folder / FREE) as free:
            for entry in free:
                with suppress(FileNotFoundError):  # another process was faster
                    Path(entry.path).rename(path)
                    return True
        return False


def _free(taken: Path, free: Path) -> None:
    """Move a file to those that can be written again."""
    with suppress(OSError):  # the simulation has ended, and the folder is deleted
        free.parent.mkdir(exist_ok=True)
        taken.rename(free)


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
