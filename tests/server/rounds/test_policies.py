"""Policies in complete federated trainings: BatchNorm, the classifier by class, state that sites keep."""

import threading
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from flwr.app import Message, MessageType

from clients import work
from clients.workspace import Workspace
from fedbus.models.batch_norm import own_names, pool_statistics, still_names
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_state import local_batch_norm
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.transport.messages import CONFIG, ROUND, Instruction
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from server.rounds.registration import register_sites
from tests.grid import Hook, LocalGrid

ARM = "fedavg"


class Federation:
    """Two sites, each prepared in a folder without stored state."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings, self.folder, self.out = settings, folder, folder / "sites"
        sites = prepare_sites(settings, self.out)
        self.weights = {name: len(site.splits["train"]) for name, site in sites.items()}
        self.start = start_state(settings.model, "none", 7)
        self.sent: list[Message] = []

    def run(self, arm: str = ARM, hook: Hook | None = None, on_round: Callable[[dict], object] = id) -> ArmFolder:
        """Run one training, or resume it."""
        grid, folder = LocalGrid(self.out, list(self.settings.sites), hook), ArmFolder(self.folder / arm)
        participants = register_sites(grid, 2, Instruction(self.settings, 7, ()), 2, 5, threading.Event())
        self.sent = grid.sent
        run_rounds(grid, participants, Job(self.settings, arm, 7, self.start, folder, arm, on_round=on_round))
        return folder

    def trained(self, state: State, number: int, title: str = "again") -> dict[str, State]:
        """What each site sends back after training a model."""
        instruction = Instruction(self.settings, 7, (0, 1, 2), title=title, round=number)
        return {
            name: work.train(Workspace(self.out, name, "cpu"), instruction, state)[0] for name in self.settings.sites
        }

    def mean(self, updates: dict[str, State], name: str) -> torch.Tensor:
        """One array, averaged over the sites by their distinct training images."""
        total = sum(self.weights.values())
        return sum(updates[site][name].double() * weight for site, weight in self.weights.items()) / total


@pytest.fixture
def make(two_site_settings: Settings, tmp_path: Path) -> Callable[..., Federation]:
    """Makes a federation with changed settings."""
    made: list[Federation] = []

    def with_settings(**changes: object) -> Federation:
        made.append(Federation(two_site_settings.model_copy(update=changes), tmp_path / str(len(made))))
        return made[-1]

    return with_settings


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("policy", ["local", "local-statistics", "frozen"])
@pytest.mark.parametrize("arm", ["fedavg", "fedadam"])
@pytest.mark.parametrize("payload", ["flat", "flat-fp16"])
def test_local_and_frozen_batch_norm_keep_the_start_arrays_in_the_shared_model(arm, payload, policy, make):
    federation = make(batch_norm=policy, payload=payload, strategy_options={"fedadam": {"eta": 0.01}})
    final, still = federation.run(arm).load_weights("final"), still_names(policy, federation.start)
    for name, value in final.items():
        assert torch.equal(value, federation.start[name]) == (name in still), name


@pytest.mark.parametrize("policy", ["local", "local-statistics"])
def test_all_other_arrays_are_averaged_over_the_sites(policy, make):
    federation = make(batch_norm=policy, rounds=2)
    states, own = [federation.start], own_names(policy, federation.start)
    federation.run(on_round=lambda line: states.append(ArmFolder(federation.folder / ARM).load().state))
    for number, (before, after) in enumerate(pairwise(states), start=1):
        updates = federation.trained(before, number)
        for name in after.keys() - set(own):
            torch.testing.assert_close(after[name], federation.mean(updates, name).float(), rtol=1e-5, atol=1e-6)
    for site in federation.settings.sites:
        assert same(local_batch_norm(federation.out, ARM, site, 2), local_batch_norm(federation.out, "again", site, 2))


def test_every_model_is_scored_with_each_sites_own_batch_norm_of_that_round(make):
    federation = make(batch_norm="local")
    folder = federation.run()
    facts, best = folder.read_facts(), folder.load_weights("best")
    asked = [m.content[CONFIG] for m in federation.sent if m.metadata.message_type == MessageType.EVALUATE]
    rounds = {(config["split"], config[ROUND]) for config in asked}
    assert rounds == {("validation", 3), ("test", facts["best_round"])}
    plain = federation.settings.model_copy(update={"batch_norm": "average"})
    last = folder.read_history()[-1]["sites"]
    for name in federation.settings.sites:
        workspace, classes = Workspace(federation.out, name, "cpu"), tuple(facts["classes"])
        mine = best | local_batch_norm(federation.out, ARM, name, facts["best_round"])
        report = work.evaluate(workspace, Instruction(plain, 7, classes, "test"), mine)
        assert facts["test"]["sites"][name] == report.score.summary()
        mine = folder.load_weights("final") | local_batch_norm(federation.out, ARM, name, 3)
        assert last[name] == work.evaluate(workspace, Instruction(plain, 7, classes), mine).score.summary()


@pytest.mark.parametrize(
    "policy", [{"batch_norm": "local"}, {"optimiser_state": "kept"}, {"batch_norm": "local", "optimiser_state": "kept"}]
)
def test_a_run_resumes_exactly_although_one_site_is_a_round_ahead(policy, make):
    uncut, cut = make(rounds=4, **policy), make(rounds=4, **policy)
    expected = uncut.run()

    def stop_in_round_3(site: str, message: Message) -> Message | None:
        in_round_3 = message.metadata.message_type == MessageType.TRAIN and message.content[CONFIG][ROUND] == 3
        if in_round_3 and site == "south":
            raise KeyboardInterrupt
        return NotImplemented

    with pytest.raises(KeyboardInterrupt):
        cut.run(hook=stop_in_round_3)
    memory = cut.out / "memory" / ARM
    assert list((memory / "north").glob("*-00003.*"))
    assert not list((memory / "south").glob("*-00003.*"))
    assert ArmFolder(cut.folder / ARM).load().round == 2
    resumed = cut.run()
    assert same(resumed.load_weights("final"), expected.load_weights("final"))
    assert same(resumed.load_weights("best"), expected.load_weights("best"))
    assert resumed.read_facts()["test"] == expected.read_facts()["test"]


def test_a_kept_optimiser_changes_the_run_from_round_2_on(make):
    for rounds, differs in ((1, False), (2, True)):
        kept = make(rounds=rounds, optimiser_state="kept").run().load_weights("final")
        assert same(kept, make(rounds=rounds).run().load_weights("final")) != differs


@pytest.mark.parametrize("arm", ["fedavg", "fedadam"])
def test_every_strategy_uses_pooled_statistics(arm, make):
    federation = make(batch_norm="pooled", rounds=1, strategy_options={"fedadam": {"eta": 0.01}})
    final, weights = federation.run(arm).load_weights("final"), federation.weights
    averaged = make(rounds=1, strategy_options={"fedadam": {"eta": 0.01}}).run(arm).load_weights("final")
    updates = federation.trained(federation.start, 1)
    pooled = pool_statistics([updates[site] for site in weights], list(weights.values()))
    assert len(pooled) > 10
    for name, value in final.items():
        assert torch.equal(value, pooled.get(name, averaged[name])), name
    variances = [name for name in pooled if name.endswith("running_var")]
    assert all((final[name] >= averaged[name] * (1 - 1e-6)).all() for name in variances)
    assert any((final[name] > averaged[name] * 1.001).any() for name in variances)


@pytest.mark.parametrize("arm", ["fedavg", "fedprox"])
def test_a_head_by_class_takes_the_row_of_a_class_from_the_sites_that_have_it(arm, make):
    federation = make(head="by-class", rounds=1, missing_classes="plain", proximal_mu=0.0)
    final, updates = federation.run(arm).load_weights("final"), federation.trained(federation.start, 1)
    for name, value in final.items():
        expected = federation.mean(updates, name).float()
        if name in ("fc.weight", "fc.bias"):
            assert not torch.allclose(expected[2], updates["north"][name][2], rtol=1e-3)
            expected[2] = updates["north"][name][2]  # the only site with normals
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
