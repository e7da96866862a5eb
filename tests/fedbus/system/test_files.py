"""Files that are written completely or not at all."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from fedbus.errors import RunError
from fedbus.system.files import write_json, write_text, write_whole


def test_text_and_json_are_written_as_given(tmp_path):
    write_text(tmp_path / "new" / "a.txt", "ä\nö\n")
    assert (tmp_path / "new" / "a.txt").read_bytes() == "ä\nö\n".encode()
    write_json(tmp_path / "a.json", {"b": [1, "ä"]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"b": [1, "ä"]}


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), KeyError(1)]
)
@pytest.mark.parametrize("old", ["old text", None])
def test_a_failing_writer_leaves_the_old_file_and_nothing_else(tmp_path, failure, old):
    path = tmp_path / "a.txt"
    if old:
        path.write_text(old)

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise failure

    with pytest.raises(RunError if isinstance(failure, OSError) else type(failure)):
        write_whole(path, fail)
    assert [p.name for p in tmp_path.iterdir()] == (["a.txt"] if old else [])
    assert not old or path.read_text() == old


def test_while_it_is_written_the_old_file_stays(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []
    write_whole(path, lambda temporary: (temporary.write_text("new"), seen.append(path.read_text())))
    assert (seen, path.read_text()) == (["old"], "new")


def test_a_full_disk_is_an_error_with_file_and_remedy(tmp_path):
    def fail(_: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(RunError, match=r"a\.json could not be written \(No space left on device\)") as caught:
        write_whole(tmp_path / "a.json", fail)
    assert "--resume" in caught.value.remedy


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (lambda path: save_file({"x": torch.zeros(9000)}, path), "too large"),
        (lambda path: np.save(path, np.zeros(9000)), "written"),
        (lambda path: path.write_bytes(bytes(72000)), "too large"),
    ],
    ids=["safetensors", "numpy", "bytes"],
)
def test_a_full_disk_is_recognised_whichever_library_writes(tmp_path, save, reason):
    resource = pytest.importorskip("resource", reason="limits on file sizes are POSIX's")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    try:
        with pytest.raises(RunError, match=rf"weights\.npy could not be written .*{reason}"):
            write_whole(tmp_path / "weights.npy", save)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match=r"file/a\.txt could not be written"):
        write_text(tmp_path / "file" / "a.txt", "x")


def test_nan_is_refused_and_nothing_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", {"loss": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_files_can_be_read_by_others(tmp_path):
    write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o644
