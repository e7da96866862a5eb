"""The hub checks and records the epsilon that sites report."""

import math

import numpy as np
import pytest

from fedbus.evaluation.validation import Score
from fedbus.runs.history import round_line
from fedbus.transport.report import Report
from server.rounds.epsilon import epsilon_fault
from tests.tiny import tiny_settings

PRIVATE = tiny_settings(model="test_efficientnet_gn", dp_epsilon=8)


def report(epsilon: float | None) -> Report:
    return Report(1.0, Score(np.eye(3, dtype=np.int64), np.ones(3)), epsilon=epsilon)


def test_a_site_without_an_epsilon_or_beyond_the_budget_is_refused():
    assert epsilon_fault(8 * (1 + 1e-9), PRIVATE) is None
    assert "no epsilon" in (epsilon_fault(None, PRIVATE) or "")
    assert "more than dp-epsilon = 8" in (epsilon_fault(8.01, PRIVATE) or "")
    assert epsilon_fault(math.nan, PRIVATE)
    assert epsilon_fault(None, tiny_settings()) is None


def test_the_history_names_what_each_site_has_spent():
    facts = {"loss": 1.5, "steps": 2, "seconds": 3.0, "site_seconds": {}, "participants": ["north"], "refused": {}}
    line = round_line(1, private=True, epsilon={"north": 2.5, "south": 3.0}, **facts)
    assert line["epsilon"] == {"north": 2.5, "south": 3.0}
    assert line["train_loss"] is None
    line = round_line(1, private=False, epsilon={"north": None}, **facts)
    assert "epsilon" not in line
    assert line["train_loss"] == 1.5


@pytest.mark.parametrize("value", [2.5, 0.0])
def test_a_report_is_received_as_it_was_sent(value):
    assert Report.from_metrics(report(value).to_metrics()).epsilon == value
