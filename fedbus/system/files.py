"""Files that are written completely or not at all."""

import json
import os
import re
import shlex
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fedbus.errors import FedbusWarning, RunError

FRAGMENT = re.compile(r"\..+\.[a-z0-9_]{8}(\.[^.]+)?")
"""The name of a file that `write_whole` has not finished."""

PRIVATE, OTHERS, ENTER = 0o700, 0o077, 0o011
"""The mode of a folder that only its owner can enter, the rights of everybody else, and those to enter it."""


def write_whole(path: Path, write: Callable[[Path], object], *, private: bool = False) -> None:
    """Call `write` with a temporary file beside `path`, then move that file into place in one step.

    If the disk is full or the process is interrupted, an old file stays unchanged and no fragment is left.

    Args:
        path: The file.
        write: Writes the file whose path it is given.
        private: Whether only the owner may read the file.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=path.suffix)
    except OSError as error:
        raise _cannot_write(path, error) from error
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o600 if private else 0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_synced(path: Path, content: bytes, *, private: bool = False) -> None:
    """Write a file with `write_whole`, and wait until it is on the disk: a power cut leaves the old or the new one."""

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())

    write_whole(path, write, private=private)


def delete_fragments(folder: Path) -> None:
    """Delete the unfinished files of killed processes; only where no other process is writing."""
    for path in folder.rglob(".*"):
        if FRAGMENT.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def make_private_folder(folder: Path) -> None:
    """Create a folder that only its owner can enter, because its files name patients or show images.

    An empty folder is closed to others. One with files is left as it is, since its owner may share it; a note says so.

    Raises:
        RunError: If the folder can't be created.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=PRIVATE, exist_ok=True)
        mode = folder.stat().st_mode & 0o777
        if os.name != "posix" or not mode & OTHERS:
            return
        if not any(folder.iterdir()):
            folder.chmod(PRIVATE)
            return
        if any(not parent.stat().st_mode & ENTER for parent in folder.resolve().parents):
            return
    except OSError as error:
        raise _cannot_write(folder, error) from error
    warnings.warn(
        f"Other users of this machine may read {folder} (mode {mode:o}), which contains images or patient ids. "
        f"To prevent that: chmod 700 {shlex.quote(str(folder))}",
        FedbusWarning,
        stacklevel=2,
    )


def check_new_folder(out: Path) -> None:
    """Check that a folder for results is missing or empty.

    Raises:
        RunError: If it is a file or contains anything.
    """
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise RunError(f"{out} is not empty.", "Name a new folder: --out FOLDER.")


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text with `write_whole`; bytes of a file's name that are not UTF-8 become escapes."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON with `write_whole`; NaN is refused, since JSON has none."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that FedBUS wrote.

    Raises:
        RunError: If the file is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged ({error}).", "Restore it, or start in a new --out.") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} is damaged (not a JSON object).", "Restore it, or start in a new --out.")
    return content


def _umask() -> int:
    """Return the user's umask, so that new files get the permissions that the user wants."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError | SafetensorError) -> RunError:
    why = getattr(error, "strerror", None) or error  # NumPy raises OSError with a message only
    return RunError(
        f"{path} could not be written ({why}); nothing incomplete is left.",
        "Free some disk space or choose another folder, then rerun the command, with --resume to continue a run.",
    )
