"""Calibration in words, and its figures for arms with and without a threshold."""

import pytest

from fedbus.evaluation.calibrated import measure_calibration
from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.net_benefit import THRESHOLDS
from fedbus.reports.calibration import calibration_rows, describe_rule, missing_thresholds
from fedbus.reports.comparison.calibration import decision_curves, reliability_diagram
from tests.fedbus.evaluation.calibration_cases import overconfident


@pytest.fixture(scope="module")
def results():
    def arm(*rows: int):
        fitted = [calibrate([overconfident(count, seed=count)], "sensitivity=0.95") for count in rows]
        test = overconfident(150, seed=1)
        places = {"all": measure_calibration([(test, each) for each in fitted], 20, 0)}
        return {
            "fitted": [{"seed": 0, **each.model_dump(exclude={"counts", "rule"})} for each in fitted],
            "places": places,
        }

    arms = {"fedavg": arm(40), "centralised": arm(300, 301)}
    return {
        "phantoms": False,
        "sites": {"north": {}},
        "arms": {name: {} for name in arms},
        "calibration": {"rule": "sensitivity=0.95", "thresholds": THRESHOLDS.tolist(), "arms": arms},
    }


def test_rows_are_in_the_order_of_the_other_tables_with_one_number_per_seed(results):
    centralised, fedavg = calibration_rows(results)
    assert (centralised["arm"], fedavg["arm"]) == ("centralised", "fedavg")
    fitted = results["calibration"]["arms"]["centralised"]["fitted"]
    assert centralised["temperature"] == ", ".join(f"{each['temperature']:.2f}" for each in fitted)
    assert centralised["threshold"] == ", ".join(f"{each['threshold']:.2f}" for each in fitted)
    assert fedavg["threshold"] == "n/a"
    assert centralised["places"]["all"]["operating_point"]["sensitivity"]["spread"] >= 0


def test_a_missing_threshold_is_explained_once(results):
    (sentence,) = missing_thresholds(results["calibration"])
    assert sentence.startswith("FedAvg: no threshold.")
    assert "needs 20" in sentence
    assert missing_thresholds(None) == []


def test_figures_name_every_arm_and_state_both_errors(results):
    diagram, curves = reliability_diagram(results), decision_curves(results)
    for figure in (diagram, curves):
        assert "FedAvg" in figure
        assert "Centralised" in figure
    errors = [
        results["calibration"]["arms"]["fedavg"]["places"]["all"][when]["ece"]["value"] for when in ("before", "after")
    ]
    assert all(f"{error:.3f}".removeprefix("0") in diagram for error in errors)
    assert "act on all" in curves
    assert reliability_diagram({**results, "calibration": None}) == ""


@pytest.mark.parametrize("rule", ["sensitivity=0.95", "specificity=0.9", "youden"])
def test_a_rule_in_words_names_what_it_reaches(rule):
    words = describe_rule(rule)
    assert rule.partition("=")[0] in words.lower()
