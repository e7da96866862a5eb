"""A cluster that does not answer, and the strategies of a simulation."""

import threading
import time

import pytest

from fedbus.errors import RunError
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.schema import Settings
from fedbus.training.balance import INTERPOLATING, ROW_SAMPLERS
from server.rounds.strategies import STRATEGY_CLASSES
from simulations.flower_simulation import simulate


def test_a_cluster_that_does_not_answer_is_an_error_without_a_wait(two_site_settings, tiny_folder, monkeypatch):
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "a" * 64)
    began = time.monotonic()
    with pytest.raises(RunError, match=r"No Ray cluster answers at 127\.0\.0\.1:1"):
        simulate(
            two_site_settings.model_copy(update={"ray_address": "127.0.0.1:1"}), tiny_folder, [], threading.Event()
        )
    assert time.monotonic() - began < 120


def test_every_strategy_of_the_settings_can_be_built():
    assert set(STRATEGIES) == set(STRATEGY_CLASSES)
    assert set(Settings.model_fields["sampler"].annotation.__args__) == {
        "none",
        "class-weights",
        *ROW_SAMPLERS,
        *INTERPOLATING,
    }
