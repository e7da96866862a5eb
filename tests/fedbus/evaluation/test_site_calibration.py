"""What a site reports of calibration: read back exactly, aggregates only, and checked at the hub."""

import json

import pytest
from flwr.app import MetricRecord
from flwr.common.serde import metric_record_from_proto, metric_record_to_proto

from fedbus.errors import RunError
from fedbus.evaluation.calibrated import measure_calibration
from fedbus.evaluation.calibration import Calibration, calibrate
from fedbus.evaluation.predictions import join
from fedbus.evaluation.site_calibration import WHEN, SiteCalibration, measure_site_calibration, pool_calibration
from fedbus.evaluation.site_scores import score_site
from tests.fedbus.evaluation.calibration_cases import overconfident

DRAWS, SEED = 200, 3


@pytest.fixture(scope="module")
def fitted():
    return calibrate([overconfident(300, seed=9)], "sensitivity=0.9")


@pytest.fixture(scope="module")
def sites():
    return {name: overconfident(rows, seed=rows, site=name, per_group=2) for name, rows in (("a", 240), ("b", 300))}


def without_bins(measured):
    """All that was measured but the sums of confidence, which are rounded on their way."""
    parts = {when: {key: value for key, value in measured[when].items() if key != "reliability"} for when in WHEN}
    return {**measured, **parts}


def record_of(rows, fitted):
    found = measure_site_calibration(rows, fitted, DRAWS, SEED)
    return {**score_site(rows, DRAWS, SEED).to_metrics(), **found.to_metrics()}


@pytest.fixture(scope="module")
def record(sites, fitted):
    return record_of(sites["a"], fitted)


def test_a_record_is_read_back_unchanged_after_flowers_message(sites, fitted, record):
    sent = metric_record_from_proto(metric_record_to_proto(MetricRecord(record)))
    found = SiteCalibration.from_metrics(dict(sent))
    assert without_bins(found.measured) == without_bins(measure_calibration([(sites["a"], fitted)], DRAWS, SEED))
    assert found.to_metrics() == {key: value for key, value in record.items() if key in found.to_metrics()}
    found.check(fitted)


def test_without_a_threshold_there_is_no_operating_point(sites):
    without = Calibration.from_counts(2.0, calibrate([overconfident(20)], "youden").counts, "sensitivity=0.99")
    found = SiteCalibration.from_metrics(record_of(sites["a"], without))
    assert without.threshold is None
    assert found.measured["operating_point"] is None
    found.check(without)
    assert pool_calibration({"a": found}, DRAWS, SEED)["operating_point"] is None


def test_sites_pool_to_the_figures_of_their_joined_rows(sites, fitted):
    found = {name: measure_site_calibration(rows, fitted, DRAWS, SEED) for name, rows in sites.items()}
    pooled = pool_calibration(found, 4000, SEED)
    exact = measure_calibration([(join(list(sites.values())), fitted)], 4000, SEED)
    assert pooled["decision_curve"] == exact["decision_curve"]
    assert pooled["after"]["ece"]["value"] == pytest.approx(exact["after"]["ece"]["value"], abs=0.005)
    assert pooled["after"]["reliability"]["count"] == exact["after"]["reliability"]["count"]
    assert pooled["before"]["brier"]["value"] == pytest.approx(exact["before"]["brier"]["value"])
    for name in ("sensitivity", "specificity", "ppv", "npv"):
        ours, theirs = pooled["operating_point"][name], exact["operating_point"][name]
        assert ours["value"] == theirs["value"]
        assert (ours["low"], ours["high"]) == pytest.approx((theirs["low"], theirs["high"]), abs=0.015)


def test_nothing_of_a_single_image_or_patient_is_in_the_record(sites, fitted, record):
    text, rows = json.dumps(record), sites["a"]
    assert not [name for name in (*rows.paths, *rows.groups) if name in text]
    assert all(len(value) <= 100 for value in record.values() if isinstance(value, list))
    for probability in (*rows.probabilities.ravel(), *fitted.apply(rows.probabilities).ravel()):
        assert f"{probability:.6f}"[1:] not in text  # although some bins have a single image
    assert 1 in record["test-reliability-count-before"]


def put(key, value):
    return lambda record: record | {key: value}


def raise_cell(key, place, by):
    def change(record):
        values = list(record[key])
        values[place] += by
        return record | {key: values}

    return change


WRONG = {
    "a missing key": (lambda record: {k: v for k, v in record.items() if k != "test-point-cells"}, "missing"),
    "fewer bins": (put("test-other-bins", [1] * 99), "test-other-bins"),
    "negative counts": (raise_cell("test-malignant-bins", 0, -500), "out of range"),
    "more images in bins": (raise_cell("test-other-bins", 3, 1), "bins count"),
    "cells of other images": (lambda r: raise_cell("test-point-cells", 0, 1)(r), "test-point-cells"),
    "a scatter that is not symmetric": (raise_cell("test-point-scatter", 1, 1), "not symmetric"),
    "a sensitivity that is not that of its cells": (put("test-point-sensitivity", [0.5, 0.4, 0.6]), "its cells"),
    "a brier score above 2": (put("test-brier-after", [2.5, 2.4, 2.6]), "test-brier-after"),
    "a slope that is not a number": (put("test-slope-before", [float("nan")] * 3), "test-slope-before"),
    "more correct images than images": (raise_cell("test-reliability-correct-after", 14, 999), "reliability-after"),
    "a confidence outside its bin": (raise_cell("test-reliability-confidence-before", 14, 99.0), "reliability-before"),
    "confidence that is no list": (put("test-reliability-confidence-before", 1.0), "reliability-before"),
    "an error that is not that of its bins": (put("test-ece-after", [0.9, 0.8, 1.0]), "its bins"),
    "no calibration error": (put("test-ece-before", []), "undefined"),
}


@pytest.mark.parametrize("name", WRONG)
def test_impossible_reports_are_refused(record, name):
    change, words = WRONG[name]
    with pytest.raises(RunError, match=words):
        SiteCalibration.from_metrics(change(record))


def test_cells_of_another_threshold_are_refused(record, fitted):
    other = fitted.model_copy(update={"threshold": 0.9})
    with pytest.raises(RunError, match="threshold"):
        SiteCalibration.from_metrics(record).check(other)
