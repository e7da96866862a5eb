"""Settings of differential privacy: what is out of range, and what excludes it."""

import math

import numpy as np
import pytest

from fedbus.errors import SettingsError
from fedbus.settings.dp_rules import VALUES, site_noise
from fedbus.settings.load import build_settings


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"dp-epsilon": -1}, "dp-epsilon"),
        ({"dp-epsilon": 1e9}, "dp-epsilon"),
        ({"dp-epsilon": math.nan}, "dp-epsilon"),
        ({"dp-delta": 0}, "dp-delta"),
        ({"dp-delta": 1}, "dp-delta"),
        ({"dp-clip": 0}, "dp-clip"),
        ({"dp-unit": "image"}, "dp-unit"),
        *(({"dp-epsilon": 8, "sampler": name}, f"sampler={name}") for name in ("rus", "smote", "class-weights")),
        ({"dp-epsilon": 8, "split": "images"}, "split=images"),
        ({"dp-epsilon": 8, "precision": "bfloat16"}, "precision=bfloat16"),
        ({"dp-epsilon": 8, "arms": "qfedavg"}, "training losses"),
        ({"dp-epsilon": 8, "arms": "fedavg,fedavg-tuned"}, "fedavg-tuned"),
    ],
    ids=str,
)
def test_what_can_not_be_accounted_for_is_refused_with_the_reason(changes, reason):
    with pytest.raises(SettingsError, match=reason):
        build_settings(changes, "the tests")


@pytest.mark.parametrize("changes", [{}, {"dp-epsilon": 0, "sampler": "smote"}, {"dp-epsilon": 0, "split": "images"}])
def test_an_epsilon_of_zero_is_none_and_excludes_nothing(changes):
    assert build_settings(changes, "the tests").dp_epsilon == 0


@pytest.mark.parametrize("epsilon", [0, 8])
def test_whole_sites_are_refused_with_the_size_of_the_noise(epsilon):
    with pytest.raises(SettingsError, match="3,864 times") as error:
        build_settings({"dp-unit": "site", "dp-epsilon": epsilon, "rounds": 12}, "the tests")
    assert "11,593 sites" in error.value.problem


def test_the_noise_of_whole_sites_agrees_with_opacuss_accountant():
    """Zero-concentrated privacy is a looser bound than the accountant's best Rényi order, by a few per cent."""
    from opacus.accountants import RDPAccountant

    sigma = site_noise(8, 1e-5, 12) / np.sqrt(VALUES)
    accountant = RDPAccountant()
    accountant.history = [(sigma, 1.0, 12)]
    assert accountant.get_epsilon(delta=1e-5) == pytest.approx(8, rel=0.15)
    assert accountant.get_epsilon(delta=1e-5) < 8
