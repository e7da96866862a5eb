"""Files of the hub under new names: version 0.2 still reads a folder that version 0.1 wrote."""

from pathlib import Path


def existing_file(path: Path, old_name: str) -> Path:
    """Return `path`, or the file under its old name in the same folder if only that one exists."""
    old = path.with_name(old_name)
    return old if old.is_file() and not path.exists() else path


def remove_old_file(path: Path, old_name: str) -> None:
    """Remove the file under its old name; to be called once `path` is completely written.

    In that order, a crash in between leaves both files, of which `existing_file` chooses the new one. So a site that
    was revoked does not come back with the old file.
    """
    if path.is_file():
        path.with_name(old_name).unlink(missing_ok=True)
