"""Scores that add up, against scikit-learn, and the loss by which the best round is chosen."""

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, f1_score, log_loss, recall_score

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.predict import predict
from fedbus.evaluation.validation import Score, record, score_probabilities, score_split, selection_loss, total
from tests.tiny import noise_site, tiny_settings


def answers(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 3, count), generator.dirichlet((1, 1, 1), count)


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
    np.testing.assert_allclose(added.loss_sums, pooled.loss_sums)


def test_a_score_of_no_image_is_an_error():
    empty = total([])
    assert empty.confusion.tolist() == [[0] * 3] * 3
    with pytest.raises(RunError, match="No rows"):
        empty.summary()


def test_a_probability_of_zero_costs_much_and_not_infinity():
    score = score_probabilities(np.array([2]), np.array([[0.5, 0.5, 0.0]]))
    assert score.loss_sums == pytest.approx([0, 0, -np.log(1e-12)])
    assert score.confusion[2, 0] == 1


def test_the_class_loss_is_the_mean_of_log_losses_within_each_class():
    labels, probabilities = answers(80, 0)
    expected = [log_loss(labels[labels == c], probabilities[labels == c], labels=[0, 1, 2]) for c in range(3)]
    assert score_probabilities(labels, probabilities).class_loss == pytest.approx(np.mean(expected))
    two = labels < 2
    assert score_probabilities(labels[two], probabilities[two]).class_loss == pytest.approx(np.mean(expected[:2]))


def test_the_best_round_is_chosen_by_a_loss_in_which_every_site_and_class_counts_the_same():
    large, small = score_probabilities(*answers(300, 1)), score_probabilities(*answers(12, 2))
    assert selection_loss([large, small]) == pytest.approx((large.class_loss + small.class_loss) / 2)
    tenfold = np.array([10, 1, 1])
    more_of_one_class = Score(large.confusion * tenfold[:, None], large.loss_sums * tenfold)
    assert selection_loss([more_of_one_class]) == pytest.approx(large.class_loss)


def test_a_split_is_scored_on_its_own_rows():
    site, settings = noise_site(), tiny_settings()
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.AvgPool2d(8), torch.nn.Flatten(), torch.nn.Linear(48, 3))
    for split, rows in site.splits.items():
        expected = score_probabilities(site.labels[rows], predict(model, site.pixels[rows], settings))
        score = score_split(model, site, split, settings)
        np.testing.assert_array_equal(score.confusion, expected.confusion)
        np.testing.assert_array_equal(score.loss_sums, expected.loss_sums)
    masked = score_split(model, site, "test", settings, torch.tensor([0, 1]))
    assert masked.confusion[:, 2].sum() == 0


def test_a_history_line_pools_and_lists_the_sites():
    scores = {f"s{seed}": score_probabilities(*answers(30, seed)) for seed in range(2)}
    line = record(scores)
    assert line["validation"] == total(scores.values()).summary()
    assert line["sites"] == {name: score.summary() for name, score in scores.items()}
    assert list(line["validation"]["recall"]) == list(CLASSES)
