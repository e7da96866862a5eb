"""The time that is left, against sums by hand."""

import pytest

from fedbus.watch.snapshot import Training
from fedbus.watch.time_left import seconds_left


def training(arm, done, seconds=None, total=10, **others):
    return Training(arm, 0, total, done, round_seconds=seconds, **others)


def test_without_a_round_nothing_is_known():
    assert seconds_left([training("centralised", 0), training("fedavg", 0)], 2) is None


def test_known_arms_count_with_their_own_speed():
    found = [training("local-a", 10, 2.0, finished=True), training("local-b", 4, 3.0), training("fedavg", 9, 6.0)]
    assert seconds_left(found, 2) == 6 * 3.0 + 1 * 6.0


def test_an_arm_that_has_not_started_takes_as_long_as_the_others():
    found = [training("centralised", 5, 8.0), training("fedavg", 0), training("fedprox", 0)]
    assert seconds_left(found, 2) == 5 * 8.0 + 10 * 8.0 + 10 * 8.0


def test_a_round_of_all_sites_takes_as_long_as_those_of_the_sites():
    found = [training("local-a", 5, 2.0), training("local-b", 0), training("fedavg", 0)]
    assert seconds_left(found, 2) == 5 * 2.0 + 10 * 2.0 + 10 * 2 * 2.0
    found = [training("fedavg", 10, 9.0, finished=True), training("fedavg-tuned", 0, total=6)]
    assert seconds_left(found, 3) == pytest.approx(6 * 9.0 / 3)


def test_blended_and_finished_arms_take_no_time():
    found = [training("fedavg", 10, 9.0, finished=True), training("fedavg-blended", 0, total=0)]
    assert seconds_left(found, 3) == 0
