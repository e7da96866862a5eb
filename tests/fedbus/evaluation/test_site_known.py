"""The baseline that knows the hospital and has not seen the image."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_known import predict_class_shares
from fedbus.evaluation.site_mean import measure_places

TRAIN = {"bra": {"benign": 30, "malignant": 10}, "busi": {"benign": 10, "malignant": 10, "normal": 20}}


def test_every_row_gets_the_class_shares_of_its_site_and_only_all_rows_gain_by_them():
    sites = ["bra"] * 20 + ["busi"] * 30
    labels = [0] * 12 + [1] * 8 + [0] * 10 + [1] * 8 + [2] * 12
    names = [str(row) for row in range(50)]
    rows = Predictions(labels, np.full((50, 3), 1 / 3), names, sites, names)
    found = predict_class_shares(rows, TRAIN)
    assert found.probabilities[0].tolist() == [0.75, 0.25, 0]
    assert found.probabilities[-1].tolist() == [0.25, 0.25, 0.5]
    measured = measure_places([[found]], list(TRAIN), 20, 0)
    assert [measured[site].summary()["auc"]["value"] for site in (*TRAIN, "mean")] == [0.5, 0.5, 0.5]
    expected = roc_auc_score(labels, found.probabilities, multi_class="ovr", average="macro")
    assert measured["all"].summary()["auc"]["value"] == pytest.approx(expected)
    assert expected > 0.5
