"""What a hub can make a site store is bounded, and the oldest goes first."""

import os
import shutil
from pathlib import Path

import pytest

from clients.limits.disk import check_free_disk, mark_used, remove_old_folders, remove_old_images
from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError

LIMITS = Limits.model_validate({"min-free-disk": 2})


def folders(work: Path, count: int) -> list[Path]:
    """Folders that were used one after another."""
    made = [work / f"st-mary-{i}" for i in range(count)]
    for i, folder in enumerate(made):
        (folder / "memory" / "run").mkdir(parents=True)
        (folder / "sites.json").write_text("{}")
        os.utime(folder, (1000 + i, 1000 + i))
    return made


def test_the_folders_used_longest_ago_are_removed(tmp_path):
    made = folders(tmp_path, 7)
    mark_used(made[1])
    assert remove_old_folders(tmp_path, made[6], 4)
    assert set(tmp_path.iterdir()) == {made[1], made[4], made[5], made[6]}
    assert not remove_old_folders(tmp_path, made[6], 4)


@pytest.mark.parametrize("current", [0, 3])
def test_the_current_folder_is_never_removed(current, tmp_path):
    made = folders(tmp_path, 4)
    remove_old_folders(tmp_path, made[current], 1)
    assert list(tmp_path.iterdir()) == [made[current]]


def test_a_new_current_folder_counts(tmp_path):
    made = folders(tmp_path, 4)
    remove_old_folders(tmp_path, tmp_path / "not-made-yet", 3)
    assert set(tmp_path.iterdir()) == set(made[2:])


def test_images_are_removed_with_the_files_that_belong_to_them(tmp_path):
    pixels = tmp_path / "pixels"
    pixels.mkdir()
    for i in range(5):
        for name in (f"{i}.npy", f"{i}-prints.npy", f"{i}-remarks.json"):
            (pixels / name).write_bytes(b"")
            os.utime(pixels / name, (1000 + i, 1000 + i))
    assert remove_old_images(tmp_path, {pixels / "0.npy"}, 2)
    kept = {f"{i}{end}" for i in (0, 4) for end in (".npy", "-prints.npy", "-remarks.json")}
    assert {path.name for path in pixels.iterdir()} == kept


def test_nothing_is_removed_where_there_is_nothing(tmp_path):
    assert not remove_old_folders(tmp_path / "work", tmp_path / "work" / "a")
    assert not remove_old_images(tmp_path / "cache", set())


def test_what_would_fill_the_disk_is_refused(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=10 * 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    check_free_disk(tmp_path, 8 * 10**9, LIMITS)
    with pytest.raises(RefusedError, match="less than min-free-disk = 2 GB left"):
        check_free_disk(tmp_path, 8 * 10**9 + 1, LIMITS)
