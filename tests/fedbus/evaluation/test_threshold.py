"""Thresholds from binned counts against the images themselves and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix, roc_curve

from fedbus.errors import SettingsError
from fedbus.evaluation.binned_counts import EDGES, MALIGNANT, add_counts, count_bins
from fedbus.evaluation.threshold import choose_threshold
from fedbus.settings.threshold_rule import parse_rule


def rows(malignant: int = 80, others: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = np.array([MALIGNANT] * malignant + [0] * others)
    return labels, np.concatenate([random.beta(4, 2, malignant), random.beta(2, 5, others)])


def rates(labels: np.ndarray, score: np.ndarray, threshold: float) -> tuple[float, float]:
    (tn, fp), (fn, tp) = confusion_matrix(labels == MALIGNANT, score >= threshold)
    return tp / (tp + fn), tn / (tn + fp)


def test_every_image_is_counted_above_exactly_the_edges_that_it_reaches():
    labels, score = rows()
    score[:4] = [0.0, 0.29, 1.0, 0.07]
    malignant, others = count_bins(labels, score).above()
    for edge, positives, negatives in zip(EDGES, malignant, others, strict=True):
        above = score >= edge
        assert (positives, negatives) == ((above & (labels == MALIGNANT)).sum(), (above & (labels != MALIGNANT)).sum())


def test_counts_of_sites_add_up_to_those_of_their_images():
    parts = [rows(seed=seed) for seed in range(3)]
    together = count_bins(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    assert add_counts(count_bins(*part) for part in parts) == together


@pytest.mark.parametrize("target", [0.8, 0.95])
def test_sensitivity_takes_the_highest_threshold_that_reaches_it(target):
    labels, score = rows()
    chosen = choose_threshold(count_bins(labels, score), f"sensitivity={target}")
    assert chosen == max(edge for edge in EDGES if rates(labels, score, edge)[0] >= target)


def test_specificity_takes_the_lowest_threshold_that_reaches_it():
    labels, score = rows()
    chosen = choose_threshold(count_bins(labels, score), "specificity=0.9")
    assert chosen == min(edge for edge in EDGES if rates(labels, score, edge)[1] >= 0.9)


def test_youden_is_the_largest_distance_of_the_roc_curve_to_the_diagonal():
    labels, score = rows()
    rounded = np.floor(score * 100) / 100
    false, true, thresholds = roc_curve(labels == MALIGNANT, rounded, drop_intermediate=False)
    assert choose_threshold(count_bins(labels, score), "youden") == pytest.approx(thresholds[np.argmax(true - false)])


@pytest.mark.parametrize(
    ("rule", "malignant", "others"),
    [("sensitivity=0.95", 19, 300), ("specificity=0.9", 9, 300), ("youden", 80, 9), ("specificity=0.98", 80, 49)],
)
def test_too_few_images_are_an_error_that_states_the_bound(rule, malignant, others):
    with pytest.raises(SettingsError, match="too few"):
        choose_threshold(count_bins(*rows(malignant, others)), rule)
    choose_threshold(count_bins(*rows(malignant + 1, others + 1)), rule)


def test_a_target_that_only_zero_reaches_is_an_error():
    labels, score = rows()
    score[:20] = 0.001
    with pytest.raises(SettingsError, match="no threshold"):
        choose_threshold(count_bins(labels, score), "sensitivity=0.95")


@pytest.mark.parametrize("text", ["", "sensitivity", "sensitivity=95", "sensitivity=nan", "youden=1", "f1=0.5"])
def test_other_rules_are_refused(text):
    with pytest.raises(ValueError, match="sensitivity="):
        parse_rule(text)
