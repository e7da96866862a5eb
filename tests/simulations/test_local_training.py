"""Training in one place: an interrupted run resumes bit for bit, and the best round is the best."""

import dataclasses

import numpy as np
import pytest
import torch

from fedbus.errors import RunError
from fedbus.evaluation.validation import score_split, total
from fedbus.models.start import start_state
from fedbus.models.state import set_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.schema import Settings
from fedbus.training.optimiser import make_optimiser, optimiser_tensors, restore_optimiser
from fedbus.training.rows import pooled_rows, site_rows
from simulations.local_training import LocalTraining, place_model
from tests.tiny import noise_site, tiny_settings

CPU = torch.device("cpu")


class PowerCutError(Exception):
    """Raised to interrupt a run."""


def training_of(settings: Settings, steps: int = 3) -> LocalTraining:
    site = noise_site()
    return LocalTraining(
        settings, 0, site_rows(site, settings, 0, CPU), [site], steps, start_state(settings.model, "none", 1)
    )


def cut_after(rounds: int, settings: Settings, steps: int = 3):
    """Make a progress callback that interrupts the run in the middle of a round, after `rounds` whole ones."""
    images = 0

    def progress(count: int) -> None:
        nonlocal images
        images += count
        if images > (rounds * steps + 1) * settings.batch_size:
            raise PowerCutError

    return progress


def without_times(history: list[dict]) -> list[dict]:
    return [{key: value for key, value in line.items() if key != "seconds"} for line in history]


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
@pytest.mark.parametrize("model", ["test_resnet", "test_efficientnet"])
def test_an_interrupted_run_ends_bit_for_bit_like_an_uninterrupted_one(tmp_path, optimiser, model):
    settings = tiny_settings(rounds=4, optimiser=optimiser, model=model)
    uncut, cut = ArmFolder(tmp_path / "uncut"), ArmFolder(tmp_path / "cut")
    training_of(settings).run(uncut)
    with pytest.raises(PowerCutError):
        training_of(settings).run(cut, cut_after(2, settings))
    assert not cut.finished
    assert cut.load().round == 2
    advances: list[int] = []
    training_of(settings).run(cut, advances.append)
    assert advances[0] == 2 * 3 * settings.batch_size
    assert len(advances) == 1 + 2 * 3
    assert cut.finished
    for which in ("best", "final"):
        one, other = uncut.load_weights(which), cut.load_weights(which)
        assert all(torch.equal(one[key], other[key]) for key in one)
    assert without_times(cut.read_history()) == without_times(uncut.read_history())
    assert cut.read_facts()["best_round"] == uncut.read_facts()["best_round"]


def test_an_interruption_after_the_last_round_trains_nothing_again(tmp_path, monkeypatch):
    settings, folder = tiny_settings(rounds=2), ArmFolder(tmp_path / "arm")
    with monkeypatch.context() as patch:
        patch.setattr(ArmFolder, "finish", lambda *_: (_ for _ in ()).throw(PowerCutError))
        with pytest.raises(PowerCutError):
            training_of(settings).run(folder)
    before, advances = folder.load_weights("final"), []
    training_of(settings).run(folder, advances.append)
    assert advances == [2 * 3 * settings.batch_size]
    assert folder.finished
    assert all(torch.equal(before[key], value) for key, value in folder.load_weights("final").items())


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_an_optimiser_is_restored_with_the_layout_of_its_parameters(optimiser):
    settings = tiny_settings(optimiser=optimiser)
    model = place_model(settings.model, CPU)
    generator = torch.Generator().manual_seed(0)

    def step(of: torch.optim.Optimizer) -> None:
        for group in of.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.empty_like(parameter).copy_(torch.rand(parameter.shape, generator=generator))
        of.step()

    first = make_optimiser(model, settings)
    step(first)
    saved = {key: value.clone() for key, value in optimiser_tensors(first).items()}
    assert all(value.is_contiguous() for value in saved.values())
    second = make_optimiser(model, settings)
    restore_optimiser(second, saved)
    for parameter, values in second.state.items():
        for key, value in values.items():
            assert torch.equal(value, first.state[parameter][key])
            assert value.dim() == 0 or value.stride() == parameter.stride()
    strides = [p.stride() for p in model.parameters() if not p.is_contiguous()]
    assert strides  # a model without channels_last weights would prove nothing


def test_an_optimiser_without_state_stays_without_state():
    optimiser = make_optimiser(place_model("test_resnet", CPU), tiny_settings())
    restore_optimiser(optimiser, {})
    assert not optimiser.state


def test_the_best_weights_are_those_of_the_round_with_the_lowest_validation_loss(tmp_path):
    settings = tiny_settings(rounds=6, learning_rate=0.001)
    site = noise_site(counts=(30, 30, 30))
    puzzle = dataclasses.replace(site, labels=np.random.default_rng(0).permutation(site.labels))
    kept = []
    for seed in range(3):  # no model can learn the puzzle, so its best round is not always the last
        fit = dataclasses.replace(training_of(settings), seed=seed, validation=[puzzle])
        folder = ArmFolder(tmp_path / str(seed))
        fit.run(folder)
        history, best = folder.read_history(), folder.read_facts()["best_round"]
        losses = [line["sites"]["north"]["class_loss"] for line in history]
        assert best == 1 + losses.index(min(losses))
        model = place_model(settings.model, CPU)
        for which, number in (("best", best), ("final", 6)):
            set_state(model, folder.load_weights(which))
            score = score_split(model, fit.validation[0], "validation", settings)
            assert score.class_loss == pytest.approx(losses[number - 1], rel=1e-6)
        kept.append(best)
    assert set(kept) - {1, 6}  # else the first or the last might be kept blindly


def test_the_history_has_a_line_per_round_and_pools_the_sites(tmp_path):
    settings = tiny_settings(rounds=2)
    sites = [noise_site("north"), noise_site("south", (20, 10, 10), seed=1)]
    fit = dataclasses.replace(training_of(settings), rows=pooled_rows(sites, settings, 0, CPU), validation=sites)
    folder = ArmFolder(tmp_path)
    fit.run(folder)
    lines = folder.read_history()
    assert [line["round"] for line in lines] == [1, 2]
    assert all(line["sites"].keys() == {"north", "south"} for line in lines)
    model = place_model(settings.model, CPU)
    set_state(model, folder.load_weights("final"))
    pooled = total(score_split(model, site, "validation", settings) for site in sites).summary()
    assert lines[-1]["validation"]["loss"] == pytest.approx(pooled["loss"], rel=1e-6)
    assert lines[-1]["validation"]["images"] == 6 + 8
    assert folder.read_facts()["steps"] == 2 * 3


@pytest.mark.parametrize(("policy", "classes"), [("mask", [0, 1]), ("plain", None)])
def test_a_model_may_predict_the_classes_that_it_was_trained_on(tmp_path, policy, classes):
    settings = tiny_settings(rounds=1, missing_classes=policy)
    site = noise_site(counts=(15, 10, 0))
    fit = LocalTraining(
        settings, 0, site_rows(site, settings, 0, CPU), [site], 2, start_state(settings.model, "none", 1)
    )
    fit.run(ArmFolder(tmp_path))
    assert ArmFolder(tmp_path).read_facts()["classes"] == classes


def test_pooled_rows_are_the_training_rows_of_all_sites_balanced_together():
    settings = tiny_settings()
    sites = [noise_site("north", (15, 10, 5)), noise_site("south", (30, 10, 0), seed=1)]
    rows = pooled_rows(sites, settings, 0, CPU)
    images = [(site.pixels[i].tobytes(), int(site.labels[i])) for site in sites for i in site.splits["train"].tolist()]
    seen = [(rows.images[i, 0].numpy().tobytes(), int(x)) for i, x in zip(rows.index, rows.labels, strict=True)]
    assert set(seen) == set(images)
    assert rows.distinct == len(images) == 9 + 6 + 3 + 18 + 6
    assert np.bincount(rows.labels).tolist() == [27, 27, 27]
    assert (rows.owner, rows.present.tolist()) == ("pooled", [0, 1, 2])


def test_all_arms_balance_a_site_equally_and_seeds_differ():
    settings, site = tiny_settings(), noise_site()
    first = site_rows(site, settings, 0, CPU).index
    assert torch.equal(first, site_rows(site, settings, 0, CPU).index)
    assert not torch.equal(first, site_rows(site, settings, 1, CPU).index)


def test_a_model_that_diverges_ends_the_run_and_keeps_the_rounds_before(tmp_path):
    settings = tiny_settings(rounds=3)
    folder = ArmFolder(tmp_path)
    with pytest.raises(PowerCutError):
        training_of(settings).run(folder, cut_after(1, settings))
    before = folder.load()
    spoilt = dataclasses.replace(before, state={k: v * float("nan") for k, v in before.state.items()})
    folder.save(spoilt)
    with pytest.raises(RunError, match="north: the loss of round 2"):
        training_of(settings).run(folder)
    assert folder.load().round == 1
    assert not folder.finished


def test_a_private_run_that_is_interrupted_ends_bit_for_bit_and_spends_its_budget(tmp_path):
    settings = tiny_settings(rounds=3, model="test_efficientnet_gn", dp_epsilon=8, dp_delta=1e-3)
    uncut, cut = ArmFolder(tmp_path / "uncut"), ArmFolder(tmp_path / "cut")
    training_of(settings).run(uncut)
    with pytest.raises(PowerCutError):
        training_of(settings).run(cut, cut_after(1, settings))
    training_of(settings).run(cut)
    expected, found = uncut.load_weights("final"), cut.load_weights("final")
    assert all(torch.equal(expected[key], found[key]) for key in expected)
    assert without_times(cut.read_history()) == without_times(uncut.read_history())
    spent = [line["epsilon"]["north"] for line in cut.read_history()]
    assert spent == sorted(set(spent))
    assert 7.9 < spent[-1] <= 8
    assert cut.read_facts()["epsilon"] == {"north": spent[-1]}
    assert {line["train_loss"] for line in cut.read_history()} == {None}
