"""The rule that chooses which weights are tested."""

import numpy as np
import pytest
import torch

from fedbus.evaluation.kept import finish_round, keep_best, kept_rounds, load_kept, save_last, tail_rounds
from fedbus.evaluation.validation import Score
from fedbus.runs.checkpoint import ArmFolder, Checkpoint
from tests.tiny import tiny_settings


def score(loss: float) -> Score:
    return Score(np.diag([1, 1, 1]), np.array([loss, loss, loss]))


def train(folder: ArmFolder, losses: list[float]) -> None:
    """Seven rounds whose model is their number; the checkpoint is read again before each."""
    for number, loss in enumerate(losses, start=1):
        at = folder.load() or Checkpoint(0, {"w": torch.zeros(2)})
        finish_round(at, number, {"w": torch.full((2,), float(number))}, len(losses))
        keep_best(at, [score(loss)], folder)
        folder.save(at)
    save_last(folder.load(), folder)


@pytest.mark.parametrize(("keep", "value"), [("best", 3.0), ("last", 7.0), ("tail", 6.0)])
def test_every_rule_finds_its_weights_after_one_training(keep, value, tmp_path):
    folder = ArmFolder(tmp_path)
    train(folder, [0.9, 0.8, 0.5, 0.7, 0.6, 0.5, 0.7])
    settings = tiny_settings(rounds=7, keep=keep)
    assert load_kept(folder, settings)["w"].tolist() == [value, value]
    rounds = kept_rounds(settings, folder.load().best_round)
    assert np.mean(rounds) == value, "the rounds of a site's own BatchNorm are those of the model"


@pytest.mark.parametrize(("rounds", "tail"), [(1, [1]), (2, [2]), (3, [3]), (4, [3, 4]), (36, list(range(25, 37)))])
def test_the_tail_is_the_last_third_rounded_up(rounds, tail):
    assert list(tail_rounds(rounds)) == tail


def test_the_tail_is_the_mean_of_its_models(tmp_path):
    generator = torch.Generator().manual_seed(0)
    models = [torch.rand(5, generator=generator) for _ in range(9)]
    at = Checkpoint(0, {"w": torch.zeros(5)})
    for number, model in enumerate(models, start=1):
        finish_round(at, number, {"w": model}, 9)
    torch.testing.assert_close(at.tail["w"], torch.stack(models[6:]).mean(0))


def test_if_no_round_was_scored_the_last_is_the_best(tmp_path):
    folder, at = ArmFolder(tmp_path), Checkpoint(0, {"w": torch.zeros(1)})
    finish_round(at, 1, {"w": torch.ones(1)}, 1)
    save_last(at, folder)
    assert at.best_round == 1
    assert load_kept(folder, tiny_settings())["w"].tolist() == [1.0]
