"""Bound the disk space that a hub can make a site use: old prepared data go, and some space always stays free."""

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from clients.limits.limits import Limits
from clients.limits.refusal import refusal

MOST_FOLDERS = 10
"""Prepared folders that a site keeps. Each has the state that its runs need with --resume."""

MOST_STATES = 20
"""Trainings of one prepared folder whose state a site keeps; the titles of a hub name them."""

MOST_DECODED = 4
"""Sets of decoded images that a site keeps, one per image size and treatment of annotations."""

GIGABYTE = 10**9


def check_free_disk(folder: Path, need: int, limits: Limits) -> None:
    """Check that a number of bytes fits on the disk and leaves what the limits reserve.

    Raises:
        RefusedError: If it does not.
    """
    if shutil.disk_usage(folder).free - need < limits.min_free_disk * GIGABYTE:
        raise refusal([f"its disk would have less than min-free-disk = {limits.min_free_disk} GB left"])


def mark_used(*paths: Path) -> None:
    """Set the time of files or folders to now, so that they are removed last."""
    for path in paths:
        if path.exists():
            os.utime(path)


def remove_old_folders(work: Path, current: Path, most: int = MOST_FOLDERS) -> bool:
    """Remove the prepared folders that were used longest ago, until with the current one there are at most `most`.

    Returns:
        Whether any was removed.
    """
    folders = [path for path in work.glob("*") if path.is_dir()]
    old = _surplus(folders, {current}, most)
    for folder in old:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(old)


def remove_old_images(cache: Path, current: set[Path], most: int = MOST_DECODED) -> bool:
    """Remove the decoded images that were used longest ago, with the files that belong to them, likewise.

    Returns:
        Whether any were removed.
    """
    images = [path for path in (cache / "pixels").glob("*.npy") if not path.stem.endswith("-prints")]
    old = _surplus(images, current, most)
    for path in old:
        for file in path.parent.glob(f"{path.stem}*"):
            file.unlink(missing_ok=True)
    return bool(old)


def _surplus(paths: Iterable[Path], current: set[Path], most: int) -> list[Path]:
    others = sorted((path for path in paths if path not in current), key=lambda path: path.stat().st_mtime)
    return others[: max(0, len(others) + len(current) - most)]
