"""Lock files; tests/clients/site/test_lock.py shows that a lock is free again however its process ends."""

import os

import pytest

from fedbus.errors import RunError
from fedbus.system.locks import hold, is_held


def test_the_lock_is_held_inside_the_block_and_names_its_process(tmp_path):
    path = tmp_path / ".running"
    assert not is_held(path)
    assert not path.exists(), "a question writes nothing"
    with hold(path, "It is in use", "Wait."):
        assert is_held(path)
        with (
            pytest.raises(RunError, match=f"It is in use, by process {os.getpid()}. Wait"),
            hold(path, "It is in use", "Wait."),
        ):
            pass
    assert not is_held(path)


def test_a_missing_folder_is_an_error_with_a_remedy(tmp_path):
    with pytest.raises(RunError, match="can't be written"), hold(tmp_path / "gone" / ".running", "x", "y"):
        pass
