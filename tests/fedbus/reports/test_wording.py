"""How numbers, intervals and arms are written."""

import pytest

from fedbus.reports import wording
from tests.report_sample import sample_results


@pytest.mark.parametrize(
    ("value", "signed", "text"),
    [
        (0.912, False, ".912"),
        (1.0, False, "1.000"),
        (0.9996, False, "1.000"),
        (-0.02, False, "−.020"),
        (0.013, True, "+.013"),
        (0.0, True, ".000"),
        (-0.0002, False, "−.000"),
        (None, False, "n/a"),
        (float("nan"), False, "n/a"),
    ],
)
def test_numbers_have_three_digits_and_no_leading_zero(value, signed, text):
    assert wording.number(value, signed) == text


def test_intervals_and_spread_follow_the_value():
    metric = {"value": 0.912, "low": 0.88, "high": 0.941}
    assert wording.with_interval(metric) == ".912 (.880–.941)"
    assert wording.with_interval({**metric, "spread": 0.0104}) == ".912 (.880–.941) ±.010"
    assert wording.with_interval({"value": -0.02, "low": -0.04, "high": 0.002}, True) == "−.020 (−.040 to .002)"
    assert wording.with_interval({"value": 0.5, "low": None, "high": None}) == ".500"
    assert wording.with_interval(None) == "n/a"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(0.001, 0.2, "higher"), (-0.2, -0.001, "lower"), (-0.1, 0.1, "inconclusive"), (0.0, 0.1, "inconclusive"),
     (None, None, "no interval")],
)  # fmt: skip
def test_only_an_interval_without_zero_decides(low, high, verdict):
    assert wording.verdict({"value": 0.0, "low": low, "high": high}) == verdict


def test_arms_are_ordered_alone_centralised_federated():
    results = sample_results()
    results["arms"] = dict(reversed(results["arms"].items()))
    ordered = wording.ordered_arms(results)
    assert ordered[:4] == ["local-BUSI", "local-BUS-UCLM", "local-BUS-BRA", "centralised"]
    assert set(ordered[4:]) == {"fedavg", "fedprox"}
    assert [wording.arm_label(arm) for arm in ordered[:4]] == [
        "BUSI alone",
        "BUS-UCLM alone",
        "BUS-BRA alone",
        "Centralised",
    ]


def test_all_test_images_are_the_sum_of_the_sites():
    results = sample_results()
    assert wording.tested(results, "all", "normal") == 27 + 84 + 0
    assert wording.tested(results, "BUS-BRA", "normal") == 0
