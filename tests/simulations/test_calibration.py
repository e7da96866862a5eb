"""Calibration in a comparison: fitted on validation rows, recorded with the model, and shown in the report."""

import re
import shutil

import numpy as np
import pytest

from fedbus.evaluation.blend import blend
from fedbus.evaluation.calibrated import measure_calibration
from fedbus.evaluation.calibration import calibrate
from fedbus.evaluation.predictions import Predictions, join
from fedbus.model_folder.read import read_model
from fedbus.reports import wording
from fedbus.reports.comparison.results import read_results
from fedbus.runs.folder import read_settings
from fedbus.sites.site import open_site
from simulations.arm import list_arms
from simulations.calibration import calibrate_arm, measure_calibrations

SITES = ("north", "south")


def validation(run, arm):
    return Predictions.from_csv(run / "arms" / arm / "validation.csv")


@pytest.fixture(scope="module")
def results(trained_run):
    return read_results(trained_run)


@pytest.mark.parametrize("arm", ["centralised", "fedavg", "fedavg-tuned", "local-north"])
def test_the_model_folder_has_the_calibration_of_its_validation_rows(trained_run, results, arm):
    rows = validation(trained_run, arm)
    own = SITES if arm != "local-north" else ("north",)
    for name in SITES:
        site = open_site(trained_run, name)
        assert rows.select(name).paths.tolist() == site.paths[site.splits["validation"]].tolist()
    expected = calibrate([rows.select(name) for name in own], "sensitivity=0.95")
    assert read_model(trained_run / "arms" / arm).facts.calibration == expected
    (fitted,) = results["calibration"]["arms"][arm]["fitted"]
    assert (fitted["temperature"], fitted["threshold"]) == (expected.temperature, expected.threshold)
    assert "too few" in fitted["reason"]
    assert tuple(results["calibration"]["arms"][arm]["places"]) == (("all", *own) if len(own) > 1 else own)


def test_a_blended_arm_is_blended_before_it_is_calibrated(trained_run, results):
    own = join([validation(trained_run, f"local-{name}").select(name) for name in SITES])
    blended = blend(own, validation(trained_run, "fedavg"))
    np.testing.assert_array_equal(validation(trained_run, "fedavg-blended").probabilities, blended.probabilities)
    expected = calibrate([blended.select(name) for name in SITES], "youden").temperature
    assert results["calibration"]["arms"]["fedavg-blended"]["fitted"][0]["temperature"] == expected


def test_test_rows_are_measured_with_the_draws_of_the_other_metrics(trained_run, results):
    settings = read_settings(trained_run)
    rows = Predictions.from_csv(trained_run / "arms" / "fedavg" / "predictions.csv")
    fitted = calibrate([validation(trained_run, "fedavg").select(name) for name in SITES], settings.threshold)
    expected = measure_calibration([(rows, fitted)], settings.bootstrap, settings.draw_seed)
    assert results["calibration"]["arms"]["fedavg"]["places"]["all"] == expected
    assert expected["before"]["ece"] == pytest.approx(results["arms"]["fedavg"]["all"]["ece"])


def test_another_rule_needs_no_weights_once_the_rows_are_predicted(trained_run, results, tmp_path):
    out = _without_weights(trained_run, tmp_path)
    settings = read_settings(out).model_copy(update={"threshold": "specificity=0.5"})
    arm = next(arm for arm in list_arms(settings, out) if arm.name == "fedavg")
    found = calibrate_arm(arm, settings, {name: open_site(trained_run, name) for name in SITES})
    assert found.temperature == results["calibration"]["arms"]["fedavg"]["fitted"][0]["temperature"]
    assert found.rule == "specificity=0.5"


def test_arms_whose_weights_are_elsewhere_are_not_calibrated(trained_run, tmp_path):
    out = _without_weights(trained_run, tmp_path)
    settings = read_settings(out)
    runs = {arm.name: [(arm, validation(out, arm.name))] for arm in list_arms(settings, out)}
    assert measure_calibrations(settings, {name: open_site(trained_run, name) for name in SITES}, runs) is None


def test_the_report_shows_temperature_figures_and_why_there_is_no_threshold(trained_run, results):
    page = (trained_run / "report.html").read_text(encoding="utf-8")
    section = re.search('<section aria-labelledby="calibration">.*?</section>', page, re.DOTALL).group()
    assert section.count("<svg") == 2
    for found in results["calibration"]["arms"].values():
        assert f'<td rowspan="{len(found["places"])}">{found["fitted"][0]["temperature"]:.2f}</td>' in section
        for measured in found["places"].values():
            for figures in (measured["before"], measured["after"]):
                assert all(wording.value(figures[name]) in section for name in ("ece", "brier", "slope", "intercept"))
    assert "too few to choose a threshold" in section


def _without_weights(run, folder):
    out = folder / "run"
    shutil.copytree(run, out, ignore=shutil.ignore_patterns("*.safetensors", "memory"))
    return out
