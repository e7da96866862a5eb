"""What a site has released of a training stays on its record, whatever title or run the hub gives to it."""

import shutil
from pathlib import Path

import pytest
from flwr.app import Message

from clients.released import released_folder
from clients.workspace import Workspace, _prepare_at_site
from fedbus.models.start import start_state
from fedbus.transport.messages import METRICS, Instruction
from tests.approved_sites import new_roster
from tests.clients.test_hostile_hub import _new_process, ask, site  # noqa: F401, fixtures
from tests.tiny import tiny_settings

MODEL = "test_efficientnet_gn"
PRIVATE = {
    "model": MODEL, "dp_epsilon": 8, "dp_delta": 1e-3, "rounds": 1, "steps_per_round": 2, "augmentation": False,
}  # fmt: skip


def train(site, seed: int, **changes) -> Message:  # noqa: F811
    """Train from weights of a seed, under a title."""
    return ask(site, "train", start_state(MODEL, "none", seed), **PRIVATE | changes)


def test_another_title_or_run_is_no_other_budget(site):  # noqa: F811
    first = train(site, 7, title="first")
    assert 0 < first.content[METRICS]["epsilon"] <= 8
    assert train(site, 7, title="again").content[METRICS]["epsilon"] == first.content[METRICS]["epsilon"]
    for changes in ({"title": "second"}, {"raw": {"run": "beef"}}, {"bootstrap": 77, "title": "third"}):
        assert "the budget of dp-epsilon is spent" in train(site, 8, **changes).error.reason
    assert train(site, 8, raw={"seed": 8}).has_content(), "a training of its own, which an operator approves"


def test_a_site_that_removes_the_state_of_old_runs_does_not_forget_its_budget(site):  # noqa: F811
    assert train(site, 7, learning_rate=0.02).has_content()
    shutil.rmtree(site.work)
    _prepare_at_site.cache_clear()
    assert "the budget of dp-epsilon is spent" in train(site, 8, learning_rate=0.02).error.reason


def at(instruction: Instruction, released: Path | None = Path("released")) -> Path:
    return released_folder(Workspace(Path("work"), "north", "cpu", released=released), instruction)


@pytest.mark.parametrize(
    "changes", [{"title": "other"}, {"run": "beef"}, {"round": 1}, {"sites": new_roster("a", "b")}]
)
def test_a_record_is_named_after_what_the_operator_approves(changes):
    settings = tiny_settings(arms=["fedavg", "fedprox"])
    assert at(Instruction(settings, 7, (), **changes)) == at(Instruction(settings, 7, ()))
    others = (
        Instruction(settings, 8, ()),
        Instruction(settings, 7, (), arm="fedprox"),
        Instruction(tiny_settings(rounds=4), 7, ()),
    )
    assert len({at(each) for each in others} - {at(Instruction(settings, 7, ()))}) == 3


def test_a_simulation_has_its_records_beside_the_state_of_the_run():
    assert at(Instruction(tiny_settings(), 7, (), title="one"), None) == Path("work/memory/one/north")
