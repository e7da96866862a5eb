"""Folders with keys: created completely or not at all, readable only by their owner, checked when opened."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from fedbus.errors import RunError
from fedbus.settings.explain import explain

Content = TypeVar("Content")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a draft folder (mode 0700) that becomes `path` when the block ends, and is deleted if the block fails.

    Args:
        path: The absolute path of the new folder; missing, or an empty folder.

    Raises:
        RunError: If `path` is a file, the current folder or not empty, or can't be written.
    """
    try:
        _check_free(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _cannot_create(path, error) from error
    try:
        yield draft
        draft.rename(path)
    except OSError as error:
        raise _cannot_create(path, error) from error
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner can read, at no moment anyone else.

    Raises:
        OSError: If the file exists or can't be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def need_file(path: Path, remedy: str) -> None:
    """Check that a file exists.

    Raises:
        RunError: If the file is missing, with this remedy, or its folder can't be read.
    """
    try:
        found = path.is_file()
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not found:
        raise RunError(f"{path} is missing.", remedy)


def need_private_file(path: Path, remedy: str) -> None:
    """Check that a file exists and that only its owner can read it.

    Raises:
        RunError: If the file is missing, or others can read or change it.
    """
    need_file(path, remedy)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        raise RunError(
            f"{path} is secret, and others can read it (mode {mode:o}).",
            f"Run `chmod 600 {shlex.quote(str(path))}`.",
        )


def read_bytes(path: Path) -> bytes:
    """Read a small file.

    Raises:
        RunError: If the file can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _cannot_read(path, error) from error


def read_validated_json(path: Path, layout: TypeAdapter[Content]) -> Content:
    """Read a JSON file of such a folder, which people may edit, and validate it.

    Raises:
        RunError: If the file can't be read or does not have this layout.
    """
    try:
        return layout.validate_json(read_bytes(path))
    except ValidationError as error:
        raise RunError(
            f"{path} is damaged: {explain(error)}.", "Fix this entry, or restore the file from a backup."
        ) from error


def _check_free(path: Path) -> None:
    if path == Path.cwd():
        raise RunError(f"{path} is the current folder and can't be replaced.", "Choose a new folder inside it.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file.", "Choose a new folder.")
    if path.exists() and any(path.iterdir()):
        raise RunError(f"{path} is not empty.", "Choose a new folder; this one was not changed.")


def _cannot_create(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} could not be created ({error.strerror or error}); nothing incomplete is left.",
        "Choose a new folder in a place where you can write, on a disk with enough space.",
    )


def _cannot_read(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} can't be read ({error.strerror or error}).",
        "Check the path, and run as the user who owns the file.",
    )
