"""Preparing a deployed run: one run at a time uses a folder, and a run that is ending is waited for."""

import threading
import time

import pytest

from fedbus.errors import RunError
from fedbus.runs.lock import RUNNING
from fedbus.system.files import read_json
from fedbus.system.locks import hold
from server.hub.deployed_run import PLAN_FILE, prepare_deployment
from server.hub.run_status import read_status


def test_a_folder_that_a_run_uses_is_refused_and_left_unchanged(tmp_path):
    with (
        hold(tmp_path / RUNNING, "taken", "wait"),
        pytest.raises(RunError, match=r"A run is using .* fedbus hub status"),
    ):
        prepare_deployment(tmp_path, "first", {"east": 7}, (), timeout=0.1)
    assert not (tmp_path / PLAN_FILE).exists()
    assert read_status(tmp_path) is None


def test_a_run_that_is_ending_is_waited_for(tmp_path):
    held = threading.Event()
    ended = []

    def end_soon():
        with hold(tmp_path / RUNNING, "taken", "wait"):
            held.set()
            time.sleep(0.5)
            ended.append(not (tmp_path / PLAN_FILE).exists())

    ending = threading.Thread(target=end_soon)
    ending.start()
    held.wait()
    prepare_deployment(tmp_path, "first", {"east": 7}, (), timeout=30)
    ending.join()
    assert ended == [True], "nothing was written while the other run still worked"
    assert read_json(tmp_path / PLAN_FILE) == {"title": "first", "nodes": {"east": 7}, "sites": []}
    assert read_status(tmp_path).state == "starting"
