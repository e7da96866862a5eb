"""The worker's share of processors and GPUs, and a cluster that does not answer."""

import threading
import time

import pytest

from fedbus.errors import RunError
from fedbus.settings.arms import STRATEGIES
from fedbus.settings.schema import Settings
from fedbus.training.balance import INTERPOLATING, ROW_SAMPLERS
from server.rounds.strategies import STRATEGY_CLASSES
from simulations.flower_simulation import gpus_per_worker, simulate


@pytest.mark.parametrize(
    ("gpus", "workers", "share"), [(0, 3, 0.0), (1, 1, 1.0), (1, 3, 1 / 3), (2, 3, 0.5), (3, 2, 1.0), (4, 2, 2.0)]
)
def test_gpus_are_shared_in_parts_that_ray_accepts_and_all_workers_fit(gpus, workers, share):
    assert gpus_per_worker(gpus, workers) == pytest.approx(share)
    if gpus:
        assert share <= 1 or share == int(share)
        assert int(1 / share) * gpus >= workers if share < 1 else share * workers <= gpus


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
