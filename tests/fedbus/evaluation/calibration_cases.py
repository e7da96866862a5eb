"""Predictions whose calibration is known: labels drawn from probabilities that are then made overconfident."""

import numpy as np

from fedbus.evaluation.predictions import Predictions


def overconfident(
    rows: int = 400, factor: float = 2.5, seed: int = 0, site: str = "s", per_group: int = 1
) -> Predictions:
    """Predictions that a temperature of about `factor` calibrates; groups of `per_group` rows."""
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, 3)) * 2
    truth = _softmax(logits)
    labels = np.array([random.choice(3, p=row) for row in truth])
    groups = [f"{site}/{row // per_group}" for row in range(rows)]
    return Predictions(labels, _softmax(logits * factor), groups, [site] * rows, [f"{row}.png" for row in range(rows)])


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)
