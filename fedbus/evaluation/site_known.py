"""The baseline "hospital known, image not seen": what recognising the hospital alone is worth on all test rows."""

from collections.abc import Mapping

import numpy as np

from fedbus.classes import CLASSES
from fedbus.evaluation.predictions import Predictions


def predict_class_shares(rows: Predictions, train: Mapping[str, Mapping[str, int]]) -> Predictions:
    """Give every row the class shares among the training rows of its site.

    At a site all rows then get the same prediction, so its AUC is .5; on all rows it is higher wherever the sites'
    class shares differ.

    Args:
        rows: Any predictions on the rows.
        train: By site, the number of training rows of each class.
    """
    counts = {site: np.array([train[site].get(name, 0) for name in CLASSES], dtype=np.float64) for site in train}
    shares = np.stack([counts[site] / counts[site].sum() for site in rows.sites.tolist()])
    return Predictions(rows.labels, shares, rows.groups, rows.sites, rows.paths)
