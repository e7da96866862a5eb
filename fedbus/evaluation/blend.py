"""Blend two models at a site: the mean of their log-probabilities, without any training.

This is the geometric mean of the two predictions, a logarithmic opinion pool with equal weights. Source: Genest and
Zidek, "Combining probability distributions", Statistical Science 1(1), 1986.
"""

import numpy as np

from fedbus.evaluation.measured import check_same_rows
from fedbus.evaluation.metrics import LEAST_PROBABILITY
from fedbus.evaluation.predictions import Predictions


def blend(own: Predictions, shared: Predictions) -> Predictions:
    """Blend the predictions of a site's own model and of a shared one.

    Args:
        own: Predictions of the site's own model; for several sites, each row by the model of its site.
        shared: Predictions of the shared model, over the same rows in the same order.

    Raises:
        RunError: If the rows differ.
    """
    rows = check_same_rows([own, shared])
    logs = [np.log(np.clip(each.probabilities, LEAST_PROBABILITY, 1.0)) for each in (own, shared)]
    blended = np.exp(np.mean(logs, axis=0))
    blended /= blended.sum(axis=1, keepdims=True)
    return Predictions(rows.labels, blended, rows.groups, rows.sites, rows.paths)
