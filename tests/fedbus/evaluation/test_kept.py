"""The rule that chooses which weights are tested."""

import numpy as np
import pytest
import torch

from fedbus.evaluation.kept import keep_best, kept_round, load_kept, save_last
from fedbus.evaluation.validation import Score
from fedbus.runs.checkpoint import ArmFolder, Checkpoint
from tests.tiny import tiny_settings


def score(loss: float) -> Score:
    return Score(np.diag([1, 1, 1]), np.array([loss, loss, loss]))


def train(folder: ArmFolder, losses: list[float]) -> None:
    """Seven rounds whose model is their number; the checkpoint is read again before each."""
    for number, loss in enumerate(losses, start=1):
        at = folder.load() or Checkpoint(0, {"w": torch.zeros(2)})
        at.round, at.state = number, {"w": torch.full((2,), float(number))}
        keep_best(at, [score(loss)], folder)
        folder.save(at)
    save_last(folder.load(), folder)


@pytest.mark.parametrize(("keep", "value"), [("best", 3.0), ("last", 7.0)])
def test_every_rule_finds_its_weights_after_one_training(keep, value, tmp_path):
    folder = ArmFolder(tmp_path)
    train(folder, [0.9, 0.8, 0.5, 0.7, 0.6, 0.5, 0.7])
    settings = tiny_settings(rounds=7, keep=keep)
    assert load_kept(folder, settings)["w"].tolist() == [value, value]
    assert kept_round(settings, folder.load().best_round) == value


def test_if_no_round_was_scored_the_last_is_the_best(tmp_path):
    folder, at = ArmFolder(tmp_path), Checkpoint(1, {"w": torch.ones(1)})
    save_last(at, folder)
    assert at.best_round == 1
    assert load_kept(folder, tiny_settings())["w"].tolist() == [1.0]
