"""Turns, ratios and speeds: what is counted, in which order, and that a ceiling trains as our loop does."""

import time

import pytest
import torch

from fedbus.models.build import place_model
from fedbus.models.state import get_state
from fedbus.training.rows import site_rows
from simulations.benchmarks import throughput
from simulations.benchmarks.throughput import (
    WARMUP_STEPS,
    ceiling_speed,
    engine_speed,
    median_ratio,
    plain_speed,
    seconds_of,
    step_costs,
    take_turns,
)
from tests.models import CPU
from tests.tiny import noise_site, tiny_settings


def test_turns_alternate_in_direction():
    called: list[tuple[str, int]] = []

    def loop(name: str):
        def speed(steps: int) -> float:
            called.append((name, steps))
            return float(len(called))

        return speed

    found = take_turns({"a": loop("a"), "b": loop("b"), "c": loop("c")}, 4, 3)
    assert [name for name, _ in called] == list("abccbaabc")
    assert {steps for _, steps in called} == {4}
    assert found == {"a": [1.0, 6.0, 7.0], "b": [2.0, 5.0, 8.0], "c": [3.0, 4.0, 9.0]}


def test_the_ratio_is_the_median_over_turns():
    assert median_ratio([2.0, 30.0, 4.0], [1.0, 10.0, 4.0]) == 2.0  # of the medians it would be 1


def test_seconds_are_those_of_the_work():
    assert 0.05 <= seconds_of(lambda: time.sleep(0.05), CPU) < 5


def test_speeds_are_images_of_the_timed_steps_over_their_seconds(monkeypatch):
    settings, rounds = tiny_settings(), []
    monkeypatch.setattr(throughput, "seconds_of", lambda work, _: (work(), 2.0)[1])
    monkeypatch.setattr(throughput, "train_round", lambda *_, **given: rounds.append(given["steps"]))
    rows = site_rows(noise_site(), settings, 0, CPU)
    assert engine_speed(place_model(settings.model, CPU), rows, settings)(5) == 5 * settings.batch_size / 2
    assert rounds == [WARMUP_STEPS, 5]


@pytest.mark.parametrize("loop", ["ceiling", "ours", "plain"])
def test_every_loop_trains_its_model_and_no_other(loop):
    settings = tiny_settings()
    model, rows = place_model(settings.model, CPU), site_rows(noise_site(), settings, 0, CPU)
    batches = [(torch.rand(4, 3, 32, 32), torch.tensor([0, 1, 2, 0]))] * 2
    speeds = {
        "ceiling": lambda: ceiling_speed(model, settings),
        "ours": lambda: engine_speed(model, rows, settings),
        "plain": lambda: plain_speed(model, batches, settings),
    }
    before = get_state(model)
    flags = torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled
    assert speeds[loop]()(2) > 0
    assert not torch.equal(before["conv1.0.weight"], get_state(model)["conv1.0.weight"])
    assert flags == (
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark, torch.backends.cudnn.enabled
    )  # fmt: skip


def test_the_ceiling_learns_its_one_batch():
    settings = tiny_settings(learning_rate=0.01)
    model = place_model(settings.model, CPU)
    torch.manual_seed(0)
    images = throughput.normalise(torch.rand(4, 1, 32, 32, generator=torch.Generator().manual_seed(0)))
    ceiling_speed(model, settings)(30)
    assert model(images).argmax(dim=1).tolist() == [0, 1, 2, 0]


def test_the_parts_of_a_step_are_complete_and_add_up_to_it(monkeypatch):
    settings = tiny_settings()
    model, rows = place_model(settings.model, CPU), site_rows(noise_site(), settings, 0, CPU)
    monkeypatch.setattr(throughput, "augment", lambda batch, _: (time.sleep(0.2), batch)[1])
    costs = step_costs(model, rows, settings, 2)
    assert list(costs) == ["gather", "augment", "normalise", "forward and backward", "optimiser"]
    assert all(cost > 0 for cost in costs.values())
    assert costs["augment"] >= 200
