"""The bare loop is FedAvg; a simulation that ends with other weights is not compared with it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from fedbus.errors import RunError
from simulations.benchmarks import federation
from simulations.benchmarks.case import Case
from simulations.benchmarks.federation import Measured, add_to_mean, measure, measure_workers, wire

# Ray leaves its processes and /dev/null open until the interpreter ends.
pytestmark = [pytest.mark.timeout(1200), pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


def test_a_weighted_mean_is_computed_in_place():
    states = [{"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 6.0])}]
    mean: dict[str, np.ndarray] = {}
    for state, share in zip(states, (0.25, 0.75), strict=True):
        add_to_mean(mean, state, share)
    assert mean["w"].tolist() == [2.5, 5.0]
    assert states[0]["w"].tolist() == [1.0, 2.0]


def test_a_simulation_takes_the_bare_loops_steps_and_is_timed_against_it(tiny_case: Case, tmp_path):
    found = measure(tiny_case, tmp_path)
    assert found["same_weights"]
    assert found["federation_over_bare"] == pytest.approx(found["round_s"] / found["bare_round_s"])
    assert found["federation_over_steps"] > found["federation_over_bare"] > 0
    assert found["federation_startup_s"] > 0


def test_other_final_weights_are_an_error(tiny_case: Case, tmp_path, monkeypatch):
    def elsewhere(case: Case, folder: object) -> Measured:
        return Measured([1.0, 1.0], [], 2.0, 0.0, {key: value + 1 for key, value in case.start.items()}, [])

    monkeypatch.setattr(federation, "run_federated", elsewhere)
    with pytest.raises(RunError, match="different weights"):
        measure(tiny_case, tmp_path)


def test_a_message_has_four_bytes_per_value_and_two_in_half_precision():
    state = {"a": torch.zeros(3, 4), "b": torch.zeros(8)}
    assert wire(state, "flat") == {"arrays": 1, "megabytes": pytest.approx(80e-6)}
    assert wire(state, "flat-fp16") == {"arrays": 1, "megabytes": pytest.approx(40e-6)}
    assert wire(state, "dict") == {"arrays": 2, "megabytes": pytest.approx(80e-6)}


def test_a_round_with_several_workers_lasts_from_the_end_of_the_one_before(tiny_case: Case, tmp_path, monkeypatch):
    def run(case: Case, folder: Path) -> Measured:
        assert (case.settings.workers, folder) == (3, tmp_path / "workers-3")
        return Measured([1.0] * 4, [], 20.0, 6.0, {}, [10.0, 12.0, 15.0, 17.5])

    monkeypatch.setattr(federation, "run_federated", run)
    assert measure_workers(tiny_case, tmp_path, 3) == (2.5, 6.0)
