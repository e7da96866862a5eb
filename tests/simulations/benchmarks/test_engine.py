"""The engine's figures: ratios of what was measured, and two loops scored on the same rows after the same steps."""

import json

import numpy as np
import pytest
import torch

from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import join
from fedbus.models.build import place_model
from fedbus.models.state import get_state, set_state
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import POOLED, pooled_rows
from simulations.benchmarks import engine
from simulations.benchmarks.case import Case
from simulations.benchmarks.engine import compare_accuracy, main, measure_speed
from simulations.benchmarks.image_folders import write_image_folders


@pytest.fixture(scope="module")
def tree(tiny_case, tmp_path_factory):
    return write_image_folders(tiny_case, tmp_path_factory.mktemp("trees") / "new")[POOLED]


def test_speeds_are_ratios_of_the_turns_that_were_taken(tiny_case, tree, monkeypatch):
    turns = {"ceiling": [10.0, 20.0, 40.0], "ours": [9.0, 10.0, 36.0], "plain": [3.0, 2.0, 18.0]}
    requested = {}

    def take_turns(speeds, steps, count):
        requested.update(names=list(speeds), steps=steps, turns=count)
        assert all(speed(1) > 0 for speed in speeds.values())
        return turns

    monkeypatch.setattr(engine, "take_turns", take_turns)
    found = measure_speed(tiny_case, tree, 2, 3)
    assert requested == {"names": ["ceiling", "ours", "plain"], "steps": 2, "turns": 3}
    assert found["engine_over_ceiling"] == pytest.approx(0.9)
    assert found["engine_over_plain"] == pytest.approx(3.0)
    assert found["images_per_second"] == {"ceiling": 20.0, "ours": 10.0, "plain": 3.0}
    assert (found["precision"], found["device"]) == ("float32", "cpu")


def test_both_loops_are_scored_on_the_same_test_rows_after_equal_steps(tiny_case, tree, monkeypatch):
    settings = tiny_case.settings.model_copy(update={"seeds": (4, 5), "rounds": 2})
    case = Case(settings, tiny_case.out, tiny_case.sites, tiny_case.start)
    calls, runs = [], []
    plain = engine.train_plain

    def train_plain(folder, given, steps, seed):
        calls.append((folder, steps, seed))
        runs.append(plain(folder, given, steps, seed))
        return runs[-1]

    monkeypatch.setattr(engine, "train_plain", train_plain)
    found = compare_accuracy(case, tree)
    cpu, sites = torch.device("cpu"), list(case.sites.values())
    rows = {seed: pooled_rows(sites, settings, seed, cpu) for seed in settings.seeds}
    steps = {seed: 2 * each.steps_per_round(settings) for seed, each in rows.items()}
    assert calls == [(tree, steps[seed], seed) for seed in settings.seeds]
    assert (found["steps"], found["seeds"]) == (steps[5], 2)

    def right(model):
        answers = join([predict_split(model, site, "test", settings) for site in sites])
        return (answers.probabilities.argmax(axis=1) == answers.labels).mean(), len(answers.labels)

    expected = []
    for seed in settings.seeds:
        model = place_model(settings.model, cpu)
        set_state(model, case.start)
        optimiser = make_optimiser(model, settings)
        for number in (1, 2):
            train_round(
                model, rows[seed], settings, seed=seed, round_number=number, steps=steps[seed] // 2, optimiser=optimiser
            )
        expected.append(right(model)[0])
    assert found["ours"]["value"] == pytest.approx(np.mean(expected))
    assert found["plain"]["value"] == pytest.approx(np.mean([right(run.model)[0] for run in runs]))
    assert found["difference"]["value"] == pytest.approx(found["ours"]["value"] - found["plain"]["value"])
    assert found["difference"]["low"] <= found["difference"]["value"] <= found["difference"]["high"]
    assert found["images"] == right(runs[0].model)[1]
    assert not torch.equal(get_state(runs[0].model)["fc.weight"], get_state(runs[1].model)["fc.weight"])


def test_one_command_measures_everything_and_writes_one_file(two_site_settings, tmp_path, monkeypatch):
    monkeypatch.setattr(engine, "STEPS", 1)
    monkeypatch.setattr(engine, "TURNS", 1)
    monkeypatch.setattr(engine, "SEEDS", [3])
    monkeypatch.setattr(engine, "LEARNING", {"batch-size": 6})
    settings = two_site_settings.as_dict() | {"rounds": 1}
    (tmp_path / "settings.json").write_text(json.dumps(settings))
    main(tmp_path / "settings.json", tmp_path / "engine.json")
    found = json.loads((tmp_path / "engine.json").read_text())
    assert found["engine_over_ceiling"] > 0
    assert found["engine_over_plain"] > 0
    assert found["settings"]["speed"]["batch-size"] == 4
    assert found["settings"]["accuracy"]["batch-size"] == 6  # from random weights
    assert found["settings"]["accuracy"]["seeds"] == [3]
    assert 0 <= found["accuracy"]["ours"]["value"] <= 1
