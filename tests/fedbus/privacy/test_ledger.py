"""What a site has released: counted by what it was, not by what the hub calls it; and kept through a restart."""

import json
from dataclasses import asdict, replace

import pytest

from fedbus.errors import RunError
from fedbus.privacy.ledger import Ledger, spent_epsilon
from fedbus.privacy.patients import PrivacyError
from fedbus.privacy.plan import Plan
from fedbus.runs.site_state import site_state

PLAN = Plan(rate=0.25, steps=3, rounds=2, delta=1e-3, clip=1.0, noise_multiplier=2.0)


@pytest.fixture
def memory(tmp_path):
    return site_state(tmp_path, "fedavg-seed-0", "north").folder


def open_ledger(memory, plan: Plan = PLAN, *, deployed: bool = True) -> Ledger:
    return Ledger.open(memory, plan, deployed=deployed)


def test_as_many_different_results_as_planned_are_allowed_and_no_more(memory):
    assert [open_ledger(memory).spend(digest) for digest in ("a", "b")] == [1, 2]
    with pytest.raises(PrivacyError, match="budget of dp-epsilon is spent: 2 rounds"):
        open_ledger(memory).spend("c")
    assert open_ledger(memory).releases == ["a", "b"]
    assert spent_epsilon(memory, PLAN) == PLAN.epsilon(2)


def test_a_repeated_result_is_free_also_at_the_end(memory):
    for digest in ("a", "b"):
        open_ledger(memory).spend(digest)
    assert [open_ledger(memory).spend(digest) for digest in ("a", "b", "a")] == [2, 2, 2]


def test_it_is_written_before_the_caller_goes_on(memory):
    assert not (memory / "privacy.json").exists()
    open_ledger(memory).spend("a")
    assert json.loads((memory / "privacy.json").read_text(encoding="utf-8"))["releases"] == ["a"]


def test_a_deployed_site_draws_its_secret_once_and_a_simulation_has_none(memory, tmp_path):
    first = open_ledger(memory)
    assert len(first.secret) == 32
    first.spend("a")
    assert open_ledger(memory).secret == first.secret
    others = [open_ledger(site_state(tmp_path, title, "north").folder) for title in ("fedavg-seed-1", "fedavg-seed-2")]
    assert len({first.secret, *(other.secret for other in others)}) == 3
    assert open_ledger(site_state(tmp_path, "simulated", "north").folder, deployed=False).secret == b""


@pytest.mark.parametrize(
    "change", [{"noise_multiplier": 1.0}, {"rounds": 100}, {"rate": 0.1}, {"steps": 4}, {"clip": 9}]
)
def test_another_plan_for_the_same_training_is_refused(memory, change):
    open_ledger(memory).spend("a")
    with pytest.raises(PrivacyError, match=next(iter(change))):
        open_ledger(memory, replace(PLAN, **change))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"plan": 1, "secret": "", "releases": []}',
        '{"plan": {}, "secret": "x", "releases": []}',
        json.dumps({"plan": {}, "secret": "00" * 32, "releases": []}),
        json.dumps({"plan": asdict(PLAN), "secret": "", "releases": []}),
    ],
)
def test_a_damaged_ledger_stops_the_site_and_stays(memory, text):
    memory.mkdir(parents=True)
    path = memory / "privacy.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"privacy\.json"):
        open_ledger(memory)
    assert path.read_text(encoding="utf-8") == text
