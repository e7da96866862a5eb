"""Temperature scaling against SciPy and scikit-learn."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from fedbus.errors import RunError
from fedbus.evaluation.temperature import GRID, fit_temperature, likelihood_sums, scale
from tests.fedbus.evaluation.calibration_cases import overconfident


def test_scaling_divides_the_logits():
    logits = np.random.default_rng(1).normal(size=(50, 3)) * 4
    expected = softmax(logits / 1.7, axis=1)
    np.testing.assert_allclose(scale(softmax(logits, axis=1), 1.7), expected, rtol=1e-12)


def test_the_class_of_no_image_changes_and_an_impossible_class_remains_impossible():
    probabilities = np.array([[0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [1e-200, 1 - 1e-200, 0.0]])
    for temperature in (GRID[0], 1.0, GRID[-1]):
        scaled = scale(probabilities, temperature)
        assert (scaled.argmax(axis=1) == probabilities.argmax(axis=1)).all()
        assert (scaled[:, 2] == 0).all()
        np.testing.assert_allclose(scaled.sum(axis=1), 1)


def test_the_sums_are_the_log_loss_at_each_temperature():
    rows = overconfident(100)
    sums = likelihood_sums(rows.labels, rows.probabilities)
    for temperature, found in list(zip(GRID, sums, strict=True))[len(GRID) // 2 :]:  # below 1, both clip, differently
        expected = log_loss(rows.labels, scale(rows.probabilities, temperature), normalize=False)
        assert found == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("factor", [0.5, 1.0, 2.5, 5.0])
def test_the_temperature_is_the_minimum_that_an_optimiser_finds(factor):
    rows = overconfident(factor=factor)

    def loss(temperature: float) -> float:
        return log_loss(rows.labels, scale(rows.probabilities, temperature))

    expected = minimize_scalar(loss, bounds=(GRID[0], GRID[-1]), method="bounded").x
    assert fit_temperature([likelihood_sums(rows.labels, rows.probabilities)]) == pytest.approx(expected, rel=2e-3)


def test_the_order_of_the_sites_does_not_change_a_bit():
    sites = [likelihood_sums(r.labels, r.probabilities) for r in (overconfident(90, seed=seed) for seed in range(5))]
    assert len({fit_temperature(order) for order in (sites, sites[::-1], sites[2:] + sites[:2])}) == 1


def test_a_model_without_errors_gets_the_end_of_the_grid():
    sums = likelihood_sums(np.array([0, 1]), np.array([[0.9, 0.1, 0], [0.2, 0.8, 0]]))
    assert fit_temperature([sums]) == GRID[0]


def test_no_site_is_an_error():
    with pytest.raises(RunError, match="validation"):
        fit_temperature([])
