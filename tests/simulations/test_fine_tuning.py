"""Tuned arms: one model per site, never worse on its validation rows than the shared one."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from rich.console import Console

from fedbus.errors import SettingsError
from fedbus.evaluation.predict import predict
from fedbus.evaluation.validation import score_split
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import set_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_state import BATCH_NORM, own_model, site_state
from fedbus.settings.arms import tuning_rounds
from fedbus.settings.load import build_settings
from fedbus.tracking.tracker import Tracker
from fedbus.training.rows import site_rows
from simulations.arm import Arm, list_arms
from simulations.fine_tuning import RATE_SHARE, fine_tune_arm, predict_fine_tuned
from simulations.progress import ArmProgress
from simulations.train_arms import run_arms
from tests.tiny import noise_site, tiny_settings

CPU = torch.device("cpu")
SITES = {"north": noise_site("north"), "south": noise_site("south", (20, 15, 0), seed=1)}


def finished_fedavg(tmp_path, **changes):
    settings = tiny_settings(arms=("fedavg", "fedavg-tuned"), **changes)
    shared, tuned = list_arms(settings, tmp_path)
    shared.folder.save_weights("best", start_state(settings.model, "none", 7))
    shared.folder.finish({"steps": 12, "best_round": 3, "seconds": 1.5, "classes": [0, 1, 2]})
    return settings, shared, tuned


def tune(settings, tuned: Arm, tmp_path) -> None:
    rows = {name: site_rows(site, settings, 0, CPU) for name, site in SITES.items()}
    fine_tune_arm(
        tuned, settings, tmp_path, SITES, rows, ArmProgress(Console(file=io.StringIO()), 1), Tracker(settings)
    )


def loss_of(settings, state, site):
    model = place_model(settings.model, CPU)
    set_state(model, state)
    return score_split(model, site, "validation", settings, torch.tensor([0, 1, 2])).class_loss


def test_a_tuned_arm_is_run_by_run_arms_after_the_federated_one(tmp_path):
    settings, shared, tuned = finished_fedavg(tmp_path)
    progress = ArmProgress(Console(file=io.StringIO()), 1)
    run_arms(settings, tmp_path, SITES, {0: start_state(settings.model, "none", 1)}, progress, Tracker(settings))
    facts = tuned.folder.read_facts()
    steps = sum(site_rows(site, settings, 0, CPU).steps_per_round(settings) for site in SITES.values())
    assert facts["extra_steps"] == tuning_rounds(settings.rounds) * steps
    assert facts["steps"] == 12 + facts["extra_steps"]
    assert (facts["best_round"], facts["classes"]) == (3, [0, 1, 2])
    assert set(facts["best_tuning_rounds"]) == set(SITES)
    start = shared.folder.load_weights("best")
    for name, site in SITES.items():
        folder = ArmFolder(tuned.folder.path / name)
        kept = folder.load_weights("best")
        assert loss_of(settings, kept, site) <= loss_of(settings, start, site)
        assert any(not torch.equal(start[key], value) for key, value in folder.load_weights("final").items())


def test_if_tuning_harms_the_shared_model_is_kept(tmp_path, monkeypatch):
    settings, shared, tuned = finished_fedavg(tmp_path)
    monkeypatch.setattr(
        "fedbus.evaluation.validation.Score.class_loss", property(lambda _: 0.5)
    )  # no round is any better
    tune(settings, tuned, tmp_path)
    start = shared.folder.load_weights("best")
    assert tuned.folder.read_facts()["best_tuning_rounds"] == {"north": 0, "south": 0}
    for name in SITES:
        kept = ArmFolder(tuned.folder.path / name).load_weights("best")
        assert all(torch.equal(start[key], value) for key, value in kept.items())


def test_the_rate_is_a_tenth_and_the_rounds_are_few(tmp_path, monkeypatch):
    settings, _, tuned = finished_fedavg(tmp_path)
    seen = []
    monkeypatch.setattr("simulations.fine_tuning.FineTuning.run", lambda fit, *_: (seen.append(fit.settings), stop()))
    with pytest.raises(InterruptedError):
        tune(settings, tuned, tmp_path)
    assert (seen[0].rounds, seen[0].learning_rate) == (
        tuning_rounds(settings.rounds),
        RATE_SHARE * settings.learning_rate,
    )


def stop() -> None:
    raise InterruptedError


def test_each_site_is_predicted_by_its_own_model(tmp_path):
    settings, _, tuned = finished_fedavg(tmp_path)
    tuned.folder.finish({"classes": [0, 1]})
    for seed, name in enumerate(SITES):
        ArmFolder(tuned.folder.path / name).save_weights("best", start_state(settings.model, "none", seed))
    found = predict_fine_tuned(tuned, settings, SITES)
    for seed, (name, site) in enumerate(SITES.items()):
        model = place_model(settings.model, CPU)
        set_state(model, start_state(settings.model, "none", seed))
        rows = site.splits["test"]
        expected = predict(model, site.pixels[rows], settings, torch.tensor([0, 1]))
        np.testing.assert_allclose(found.select(name).probabilities, expected, atol=1e-6)
        np.testing.assert_array_equal(found.select(name).paths, site.paths[rows])


def test_a_resumed_tuning_does_not_train_finished_sites_again(tmp_path, monkeypatch):
    settings, _, tuned = finished_fedavg(tmp_path)
    tune(settings, tuned, tmp_path)
    (tuned.folder.path / "done.json").unlink()
    before = dataclasses.asdict(tuned.folder)
    monkeypatch.setattr("simulations.fine_tuning.FineTuning.run", lambda *_: stop())
    tune(settings, tuned, tmp_path)
    assert tuned.folder.finished
    assert dataclasses.asdict(tuned.folder) == before


def test_under_local_batch_norm_a_site_starts_from_its_own(tmp_path):
    state = {"a": torch.zeros(2), "b": torch.zeros(2)}
    settings = tiny_settings(batch_norm="local")
    memory = site_state(tmp_path, "fedavg-seed-0", "north")
    memory.save(BATCH_NORM, 2, {"b": torch.ones(2)})
    memory.save(BATCH_NORM, 3, {"b": torch.full((2,), 9.0)})
    own = own_model(state, settings.batch_norm, tmp_path, "fedavg-seed-0", "north", 2)
    assert (own["a"].tolist(), own["b"].tolist()) == ([0, 0], [1, 1])
    assert own_model(state, tiny_settings().batch_norm, tmp_path, "fedavg-seed-0", "north", 2) is state


@pytest.mark.parametrize(
    ("arms", "complaint"),
    [
        (["fedprox-tuned"], "fedprox-tuned fine-tunes fedprox; add fedprox to arms"),
        (["fedavg", "fedprox-tuned"], "add fedprox to arms"),
        (["local", "local-tuned"], "unknown arm 'local-tuned'"),
    ],
)
def test_a_tuned_arm_needs_its_federated_one(arms, complaint):
    with pytest.raises(SettingsError, match=complaint):
        build_settings({"arms": arms}, "the tests")
    assert build_settings({"arms": ["fedavg", "fedavg-tuned"]}, "the tests").federated_arms == ("fedavg",)


@pytest.mark.parametrize(("rounds", "expected"), [(1, 1), (6, 1), (12, 2), (36, 6)])
def test_tuning_takes_a_sixth_of_the_rounds(rounds, expected):
    assert tuning_rounds(rounds) == expected
