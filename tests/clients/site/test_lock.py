"""The lock of a site: held by one process at a time, and released however that process ends."""

import multiprocessing
import os
import signal
import subprocess
import sys

import pytest

from clients.site.lock import hold, is_held
from fedbus.errors import RunError
from tests.site_folders import make_site


@pytest.fixture
def site(tmp_path):
    return make_site(tmp_path)


def hold_until_released(site, pipe):
    with hold(site):
        pipe.send("held")
        pipe.recv()


def test_a_site_that_has_not_joined_is_free_and_checking_writes_nothing(site):
    before = sorted(site.path.iterdir())
    assert not is_held(site)
    assert sorted(site.path.iterdir()) == before


def test_it_is_held_only_inside_the_block(site):
    with hold(site):
        assert is_held(site)
        with pytest.raises(RunError, match=f"st-mary is already joined, by process {os.getpid()}"), hold(site):
            pass
        assert is_held(site)
    assert not is_held(site)
    with hold(site):
        assert is_held(site)


@pytest.mark.parametrize("end", ["released", "killed"])
def test_another_process_holds_it_until_it_ends(site, end):
    here, there = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=hold_until_released, args=(site, there))
    child.start()
    assert here.recv() == "held"
    assert is_held(site)
    with pytest.raises(RunError, match=f"by process {child.pid}"), hold(site):
        pass
    if end == "released":
        here.send("go")
    else:
        os.kill(child.pid, signal.SIGKILL)
    child.join(10)
    assert not is_held(site)


def test_a_program_that_the_holder_started_does_not_keep_it(site):
    with hold(site):
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not is_held(site)
    finally:
        child.communicate(b"\n", timeout=10)


def test_a_folder_that_cannot_hold_it(site):
    (site.path / ".joined").mkdir()
    with pytest.raises(RunError, match="can't be written"), hold(site):
        pass
    with pytest.raises(RunError, match="can't be read"):
        is_held(site)
