"""Figures of calibration, the operating point and the decision curve against independent computations."""

import numpy as np
import pandas as pd
import pytest
from dcurves import dca
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.calibration import calibration_curve
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, confusion_matrix

from fedbus.evaluation.binned_counts import MALIGNANT, count_bins
from fedbus.evaluation.bootstrap import draw_weights, interval
from fedbus.evaluation.calibrated import measure_calibration
from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.calibration_slope import slope_and_intercept
from fedbus.evaluation.evaluate import evaluate
from fedbus.evaluation.net_benefit import THRESHOLDS, net_benefit, net_benefit_of_all
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.reliability import reliability
from tests.fedbus.evaluation.calibration_cases import overconfident

DRAWS, SEED = 300, 5


@pytest.fixture(scope="module")
def rows():
    return overconfident(400, seed=3, per_group=3)


@pytest.fixture(scope="module")
def fitted():
    return calibrate([overconfident(300, seed=4)], "sensitivity=0.9")


@pytest.fixture(scope="module")
def measured(rows, fitted):
    return measure_calibration([(rows, fitted)], DRAWS, SEED)


def test_the_slope_is_that_of_a_logistic_regression(rows):
    malignant, probability = rows.labels == MALIGNANT, rows.probabilities[:, MALIGNANT]
    slope, intercept = slope_and_intercept(malignant, probability, np.ones((1, len(malignant))))
    log_odds = logit(np.clip(probability, 1e-12, 1 - 1e-12))
    expected = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(log_odds[:, None], malignant).coef_[0, 0]
    assert slope[0] == pytest.approx(expected, rel=1e-4)
    assert 0.3 < expected < 0.5  # overconfident by 2.5
    in_the_large = brentq(lambda a: (malignant - expit(a + log_odds)).sum(), -20, 20)
    assert intercept[0] == pytest.approx(in_the_large, abs=1e-6)


def test_one_step_of_a_draw_is_near_its_own_fit(rows):
    malignant, probability = rows.labels == MALIGNANT, rows.probabilities[:, MALIGNANT]
    weights = draw_weights(rows.groups, rows.sites, 60, SEED)
    near = np.stack(slope_and_intercept(malignant, probability, weights.astype(float)))
    nothing = np.zeros((0, len(malignant)))
    for draw, found in zip(weights, near[:, 1:].T, strict=True):
        drawn = np.repeat(np.arange(len(malignant)), draw)
        exact = np.ravel(
            slope_and_intercept(malignant[drawn], probability[drawn], nothing[:, :1].repeat(len(drawn), 1))
        )
        assert np.abs(found - exact).max() < 0.35 * near[:, 1:].std(axis=1).max()


def test_separated_or_missing_sides_have_no_slope():
    malignant, once = np.array([True, True, False, False]), np.ones((1, 4))
    for truth, probability in ((malignant, [0.9, 0.8, 0.2, 0.1]), (malignant | True, [0.9, 0.8, 0.2, 0.1])):
        slope, _ = slope_and_intercept(truth, np.array(probability), once)
        assert np.isnan(slope).all()


def test_a_model_that_says_the_same_of_all_images_has_no_slope():
    malignant = np.arange(5000) % 3 == 0
    slope, intercept = slope_and_intercept(malignant, np.full(5000, 0.3), np.ones((2, 5000)))
    assert np.isnan(slope).all()
    assert np.isfinite(intercept).all()


def test_brier_and_calibration_error(rows, fitted, measured):
    calibrated = fitted.apply(rows.probabilities)
    for when, probabilities in (("before", rows.probabilities), ("after", calibrated)):
        expected = brier_score_loss(rows.labels, probabilities, scale_by_half=False)
        assert measured[when]["brier"]["value"] == pytest.approx(expected)
        other = evaluate([_with(rows, probabilities)], DRAWS, SEED)["ece"]
        assert measured[when]["ece"] == pytest.approx(other)
    assert measured["after"]["ece"]["value"] < 0.6 * measured["before"]["ece"]["value"]


def test_reliability_bins(rows):
    found = reliability(rows.labels, rows.probabilities)
    confidence = rows.probabilities.max(axis=1)
    truth, mean = calibration_curve(rows.probabilities.argmax(axis=1) == rows.labels, confidence, n_bins=15)
    used = found.count > 0
    np.testing.assert_allclose(found.correct[used] / found.count[used], truth)
    np.testing.assert_allclose(found.confidence[used] / found.count[used], mean)
    assert found.ece == pytest.approx(evaluate([rows], 1, 0)["ece"]["value"])
    assert (found + found).ece == pytest.approx(found.ece)


def test_the_operating_point_and_its_group_bootstrap(rows, fitted, measured):
    score = fitted.apply(rows.probabilities)[:, MALIGNANT]
    truth, above = rows.labels == MALIGNANT, score >= fitted.threshold

    def rates(chosen: np.ndarray) -> list[float]:
        (tn, fp), (fn, tp) = confusion_matrix(truth[chosen], above[chosen])
        return [tp / (tp + fn), tn / (tn + fp), tp / (tp + fp), tn / (tn + fn)]

    everyone = np.arange(len(truth))
    weights = draw_weights(rows.groups, rows.sites, DRAWS, SEED)
    drawn = np.array([rates(np.repeat(everyone, draw)) for draw in weights])
    for place, name in enumerate(("sensitivity", "specificity", "ppv", "npv")):
        found = measured["operating_point"][name]
        low, high = interval(drawn[:, place])
        assert found == pytest.approx({"value": rates(everyone)[place], "low": low, "high": high})


def test_the_decision_curve_is_that_of_dcurves(rows, fitted):
    score = fitted.apply(rows.probabilities)[:, MALIGNANT]
    table = pd.DataFrame({"malignant": (rows.labels == MALIGNANT).astype(int), "p": score})
    found = dca(table, "malignant", ["p"], thresholds=THRESHOLDS)
    counts = count_bins(rows.labels, score)
    for model, mine in (("p", net_benefit(counts)), ("all", net_benefit_of_all(counts))):
        np.testing.assert_allclose(mine, found.loc[found.model == model, "net_benefit"].to_numpy(), atol=1e-12)


def test_several_seeds_are_averaged_each_with_its_own_temperature(rows, fitted):
    other = calibrate([overconfident(300, seed=6)], "sensitivity=0.9")
    apart = [measure_calibration([(rows, each)], DRAWS, SEED) for each in (fitted, other)]
    both = measure_calibration([(rows, fitted), (rows, other)], DRAWS, SEED)
    for part, name in (("after", "brier"), ("after", "slope"), ("operating_point", "ppv")):
        values = [each[part][name]["value"] for each in apart]
        assert both[part][name]["value"] == pytest.approx(np.mean(values))
        assert both[part][name]["spread"] == pytest.approx(np.std(values, ddof=1))


def _with(rows: Predictions, probabilities: np.ndarray) -> Predictions:
    return Predictions(rows.labels, probabilities, rows.groups, rows.sites, rows.paths)
