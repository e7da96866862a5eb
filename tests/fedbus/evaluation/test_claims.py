"""Claims from paired intervals: not worse by more than the margin, gains and losses at each site."""

import pytest

from fedbus.evaluation.claims import MARGIN, claims


def difference(low: float, high: float) -> dict[str, dict[str, float] | None]:
    return {"auc": {"value": (low + high) / 2, "low": low, "high": high}}


@pytest.mark.parametrize(("low", "verdict"), [(-0.0099, "shown"), (-0.01, "not shown"), (-0.02, "not shown")])
def test_not_worse_is_shown_by_the_lower_end_at_the_mean_over_sites(low, verdict):
    found = claims({"centralised": {"mean": difference(low, 0.02), "all": difference(-0.5, -0.4)}})
    assert found["not_worse"]["centralised"]["verdict"] == verdict
    assert (found["not_worse"]["centralised"]["low"], found["margin"]) == (low, MARGIN)


@pytest.mark.parametrize(
    ("low", "high", "verdict"), [(0.001, 0.1, "gains"), (-0.1, -0.001, "loses"), (-0.1, 0.1, "not shown")]
)
def test_a_site_gains_or_loses_if_the_interval_on_its_own_rows_excludes_0(low, high, verdict):
    found = claims({"local-busi": {"busi": difference(low, high), "all": difference(0.1, 0.2)}})
    assert found["sites"]["busi"]["verdict"] == verdict


def test_all_own_models_together_are_no_centralised_arm():
    found = claims({"local": {"mean": difference(0.01, 0.02)}})
    assert (found["not_worse"], found["sites"]["mean"]["verdict"]) == ({}, "gains")


def test_undefined_differences_are_left_out():
    found = claims({"centralised": {"mean": {"auc": None}}, "local-busi": {"busi": {"auc": None}}})
    assert (found["not_worse"], found["sites"]) == ({}, {})
