"""The limit of open files is raised, never lowered."""

import resource

import pytest

from fedbus.system.open_files import ENOUGH, allow_many_files


@pytest.fixture
def limits():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield before
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_low_limit_is_raised_as_far_as_is_needed_and_allowed(limits):
    most = limits[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
    allow_many_files()
    expected = ENOUGH if most == resource.RLIM_INFINITY else min(ENOUGH, most)
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (expected, most)


def test_a_limit_that_is_high_enough_stays(limits, monkeypatch):
    monkeypatch.setattr("fedbus.system.open_files.ENOUGH", 16)
    allow_many_files()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == limits
