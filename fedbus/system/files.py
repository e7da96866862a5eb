"""Files that are written whole or not at all."""

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from fedbus.errors import RunError


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then put it in place in one step.

    A full disk or an interrupt leaves the old file, if there was one, untouched and no fragment behind.

    Raises:
        RunError: the disk is full or the folder can't be written.
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
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except (OSError, SafetensorError) as error:  # safetensors wraps a full disk in its own
        raise _cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text whole."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole, indented for reading, NaN refused."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object that FedBUS wrote.

    Raises:
        RunError: it is missing or damaged.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is missing or damaged ({error}).", "Restore it, or start in a new --out.") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} does not hold what FedBUS wrote.", "Restore it, or start in a new --out.")
    return content


def _umask() -> int:
    """The user's: a hospital's files may be for nobody else to read."""
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _cannot_write(path: Path, error: OSError | SafetensorError) -> RunError:
    why = getattr(error, "strerror", None) or error  # NumPy's OSError has a message alone
    return RunError(
        f"{path} could not be written ({why}); nothing half-written is left.",
        "Free some disk space or name another place, then run the command again; a study goes on with --resume.",
    )
