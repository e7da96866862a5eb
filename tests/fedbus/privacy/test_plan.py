"""The plan of a training against Opacus's accountants, step by step and numerically."""

import warnings

import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

from fedbus.errors import SettingsError
from fedbus.privacy.patients import PrivacyError, largest_rate
from fedbus.privacy.plan import epsilon_facts, make_plan
from tests.fedbus.privacy.private_rows import private_settings, rows_of

RATE, STEPS, ROUNDS = 0.25, 6, 4


@pytest.fixture(scope="module")
def planned():
    settings = private_settings(rounds=ROUNDS, steps_per_round=STEPS, sampler="none", batch_size=4)
    rows = rows_of(settings)
    return settings, rows, make_plan(rows, settings)


def test_all_rounds_together_spend_the_budget_and_each_round_a_part(planned):
    settings, _, plan = planned
    spent = [plan.epsilon(number) for number in range(ROUNDS + 1)]
    assert spent[0] == 0
    assert spent == sorted(set(spent))
    assert settings.dp_epsilon * 0.995 < spent[-1] <= settings.dp_epsilon


def test_opacuss_accountant_step_by_step_gives_the_same_epsilon(planned):
    _, _, plan = planned
    accountant = RDPAccountant()
    for number in range(1, ROUNDS + 1):
        for _ in range(STEPS):
            accountant.step(noise_multiplier=plan.noise_multiplier, sample_rate=plan.rate)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = accountant.get_epsilon(delta=plan.delta)
        assert expected <= plan.epsilon(number) * (1 + 1e-9)  # of fewer orders, the best is no better
        assert plan.epsilon(number) == pytest.approx(expected, rel=0.02)


def test_the_bound_holds_for_the_exact_accountant_too(planned):
    """Numerical accounting of the privacy loss is tighter than Rényi's bound, so it must not be above it."""
    settings, _, plan = planned
    accountant = PRVAccountant()
    accountant.history = [(plan.noise_multiplier, plan.rate, ROUNDS * STEPS)]
    found = accountant.get_epsilon(delta=plan.delta)
    assert 0.7 * settings.dp_epsilon < found < settings.dp_epsilon


def test_over_sampling_is_accounted_for_at_the_rate_of_the_rarest_class():
    with_, without = private_settings(), private_settings(sampler="none")
    rates = largest_rate(rows_of(with_), with_), largest_rate(rows_of(without), without)
    assert rates[0] == pytest.approx(9 / 3 * 4 / 27)  # 9, 6 and 3 images, brought to 9 each; batches of 4
    assert rates[1] == pytest.approx(4 / 18)


def test_an_arm_of_more_steps_is_planned_for_them(planned):
    settings, rows, plan = planned
    longer = make_plan(rows, settings, 4 * STEPS)
    assert longer.noise_multiplier > plan.noise_multiplier
    assert longer.epsilon(ROUNDS) <= settings.dp_epsilon


@pytest.mark.parametrize("delta", [1 / 6, 0.5])
def test_a_delta_that_allows_to_publish_a_patient_is_refused(delta):
    settings = private_settings(dp_delta=delta)
    with pytest.raises(PrivacyError, match="not below 1/6") as error:
        make_plan(rows_of(settings), settings)
    assert "dp-delta=2e-02" in error.value.remedy


def test_a_budget_that_no_noise_can_keep_is_refused():
    settings = private_settings(dp_epsilon=1e-7, dp_delta=1e-12)
    with pytest.raises(SettingsError, match="dp-epsilon = 1e-07"):
        make_plan(rows_of(settings), settings)


def test_facts_have_the_last_epsilon_of_every_site():
    history = [{"epsilon": {"north": 1.0, "south": 1.5}}, {"epsilon": {"north": 2.0}}]
    assert epsilon_facts(history) == {"epsilon": {"north": 2.0, "south": 1.5}}
    assert epsilon_facts([{"round": 1}]) == {}


def test_a_small_epsilon_is_possible():
    settings = private_settings(dp_epsilon=0.1, dp_delta=1e-5)
    plan = make_plan(rows_of(settings), settings)
    assert 0.099 < plan.epsilon(settings.rounds) <= 0.1
