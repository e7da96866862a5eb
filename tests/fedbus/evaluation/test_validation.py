"""Scores that add up, against scikit-learn, and the order in which rounds rank."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, log_loss, recall_score

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.predict import predict
from fedbus.evaluation.validation import Score, record, score_probabilities, score_split, total
from tests.tiny import noise_site, tiny_settings


def answers(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 3, count), generator.dirichlet((1, 1, 1), count)


def score_of(confusion: list[list[int]], loss_sum: float) -> Score:
    return Score(np.array(confusion), loss_sum)


def test_a_score_is_that_of_scikit_learn():
    labels, probabilities = answers(80, 0)
    score = score_probabilities(labels, probabilities)
    guesses = probabilities.argmax(axis=1)
    np.testing.assert_array_equal(score.confusion, confusion_matrix(labels, guesses, labels=[0, 1, 2]))
    summary = score.summary()
    assert summary["images"] == 80
    assert summary["loss"] == pytest.approx(log_loss(labels, probabilities, labels=[0, 1, 2]))
    assert summary["accuracy"] == pytest.approx((labels == guesses).mean())
    assert summary["macro_f1"] == pytest.approx(f1_score(labels, guesses, average="macro"))
    np.testing.assert_allclose(list(summary["recall"].values()), recall_score(labels, guesses, average=None))


def test_scores_of_sites_add_up_to_the_score_of_their_rows_together():
    sites = [answers(count, seed) for seed, count in enumerate((40, 7, 25))]
    pooled = score_probabilities(*(np.concatenate(columns) for columns in zip(*sites, strict=True)))
    added = total(score_probabilities(*site) for site in sites)
    np.testing.assert_array_equal(added.confusion, pooled.confusion)
    assert added.loss_sum == pytest.approx(pooled.loss_sum)
    assert added.rank == pytest.approx(pooled.rank)


def test_a_score_of_no_image_is_an_error():
    empty = total([])
    assert empty.confusion.tolist() == [[0] * 3] * 3
    with pytest.raises(RunError, match="No rows"):
        empty.summary()


def test_a_probability_of_zero_costs_much_and_not_infinity():
    score = score_probabilities(np.array([2]), np.array([[0.5, 0.5, 0.0]]))
    assert score.loss_sum == pytest.approx(-np.log(1e-12))
    assert score.confusion[2, 0] == 1


def test_rounds_rank_by_macro_f1_and_then_by_loss():
    good = score_of([[4, 0, 0], [0, 4, 0], [0, 0, 4]], 20.0)
    fair = score_of([[4, 0, 0], [0, 4, 0], [0, 2, 2]], 1.0)
    calmer = score_of([[4, 0, 0], [0, 4, 0], [0, 2, 2]], 0.5)
    assert good.rank > calmer.rank > fair.rank > (-1.0, 0.0)


def test_macro_f1_and_not_accuracy_decides():
    lost = score_of([[90, 0, 0], [0, 5, 0], [5, 0, 0]], 1.0)  # accuracy .95, one class lost
    kept = score_of([[80, 5, 5], [0, 5, 0], [0, 0, 5]], 1.0)  # accuracy .90
    assert kept.rank > lost.rank


def test_a_split_is_scored_on_its_own_rows():
    site, settings = noise_site(), tiny_settings()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(48, 3))
    for split, rows in site.splits.items():
        expected = score_probabilities(site.labels[rows], predict(model, site.pixels[rows], settings))
        score = score_split(model, site, split, settings)
        np.testing.assert_array_equal(score.confusion, expected.confusion)
        assert score.loss_sum == expected.loss_sum
    masked = score_split(model, site, "test", settings, torch.tensor([0, 1]))
    assert masked.confusion[:, 2].sum() == 0


def test_a_history_line_pools_and_lists_the_sites():
    scores = {f"s{seed}": score_probabilities(*answers(30, seed)) for seed in range(2)}
    line = record(scores)
    assert line["validation"] == total(scores.values()).summary()
    assert line["sites"] == {name: score.summary() for name, score in scores.items()}
    assert list(line["validation"]["recall"]) == list(CLASSES)
