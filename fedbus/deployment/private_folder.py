"""Folders that hold keys: made whole or not at all, for their owner alone, checked when they are opened."""

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
    """Yield a draft folder (mode 0700) that becomes `path` when the block ends, and vanishes if the block fails.

    Args:
        path: where the folder shall lie, absolute; missing or an empty folder.

    Raises:
        RunError: it holds something, is a file, is the current folder, or can't be written.
    """
    try:
        _check_free(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _cannot_make(path, error) from error
    try:
        yield draft
        draft.rename(path)
    except OSError as error:
        raise _cannot_make(path, error) from error
    finally:
        if draft.exists():
            shutil.rmtree(draft)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read, from its first byte on.

    Raises:
        OSError: it exists or can't be written.
    """
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def need_file(path: Path, remedy: str) -> None:
    """Check that a file is there.

    Raises:
        RunError: it is not (with this remedy), or may not be looked at.
    """
    try:
        found = path.is_file()
    except OSError as error:
        raise _cannot_read(path, error) from error
    if not found:
        raise RunError(f"{path} is not there.", remedy)


def need_private_file(path: Path, remedy: str) -> None:
    """Check that a file is there and is its owner's alone.

    Raises:
        RunError: it is missing, or others may read or change it.
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
        RunError: it can't be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise _cannot_read(path, error) from error


def read_json(path: Path, layout: TypeAdapter[Content]) -> Content:
    """Read a JSON file that FedBUS keeps in such a folder.

    Raises:
        RunError: it can't be read or is not of that layout.
    """
    try:
        return layout.validate_json(read_bytes(path))
    except ValidationError as error:
        raise RunError(
            f"{path} is damaged: {explain(error)}.", "Restore it from a backup, or mend that entry."
        ) from error


def _check_free(path: Path) -> None:
    if path == Path.cwd():
        raise RunError(f"{path} is the current folder and can't be replaced.", "Name a new folder inside it.")
    if path.exists() and not path.is_dir():
        raise RunError(f"{path} is a file.", "Name a new folder.")
    if path.exists() and any(path.iterdir()):
        raise RunError(f"{path} is not empty.", "Name a new folder; nothing in this one was touched.")


def _cannot_make(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} could not be made ({error.strerror or error}); nothing half-made is left.",
        "Name a new folder where you may write and the disk has room.",
    )


def _cannot_read(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path} can't be read ({error.strerror or error}).",
        "Check the path, and that you are the user to whom it belongs.",
    )
