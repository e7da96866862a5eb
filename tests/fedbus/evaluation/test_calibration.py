"""The calibration of a model: as JSON, over sites, and by another rule."""

import numpy as np
import pytest
from pydantic import ValidationError

from fedbus.errors import SettingsError
from fedbus.evaluation.binned_counts import MALIGNANT
from fedbus.evaluation.calibration import Calibration, calibrate
from fedbus.evaluation.predictions import join
from tests.fedbus.evaluation.calibration_cases import overconfident


def test_a_calibration_survives_json():
    found = calibrate([overconfident()], "sensitivity=0.95")
    assert Calibration.model_validate_json(found.model_dump_json()) == found


def test_sites_together_give_the_calibration_of_their_joined_rows():
    sites = [overconfident(seed=seed, site=f"s{seed}") for seed in range(3)]
    apart, together = calibrate(sites, "youden"), calibrate([join(sites)], "youden")
    assert apart.temperature == pytest.approx(together.temperature, rel=1e-12)
    assert (apart.counts, apart.threshold, apart.rows) == (together.counts, together.threshold, 1200)


def test_another_rule_is_applied_without_the_images():
    rows = overconfident()
    found = calibrate([rows], "sensitivity=0.95").with_rule("sensitivity=0.8")
    assert found == calibrate([rows], "sensitivity=0.8")
    score = found.apply(rows.probabilities)[rows.labels == MALIGNANT, MALIGNANT]
    assert 0.8 <= np.mean(score >= found.threshold) < 0.95


def test_too_few_images_leave_no_threshold_but_a_temperature_and_the_reason():
    found = calibrate([overconfident(30)], "sensitivity=0.99")
    assert found.threshold is None
    assert "needs 100" in found.reason
    with pytest.raises(SettingsError):
        found.with_rule("sensitivity=0.99")


@pytest.mark.parametrize("change", [{"temperature": 0}, {"threshold": 2}, {"rule": "best"}, {"rows": 0}, {"more": 1}])
def test_other_values_are_refused(change):
    sound = calibrate([overconfident()], "youden").model_dump()
    with pytest.raises(ValidationError):
        Calibration.model_validate(sound | change)
