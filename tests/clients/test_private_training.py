"""Rounds with differential privacy at a site: its ledger, its noise, and what the hub is told."""

from dataclasses import replace

import pytest
import torch

from clients import work
from clients.limits.limits import Limits
from clients.limits.refusal import RefusedError
from clients.site_training import train_site
from clients.workspace import Workspace
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.privacy.ledger import Ledger
from fedbus.privacy.patients import PrivacyError
from fedbus.privacy.plan import make_plan
from fedbus.runs.site_state import site_state
from fedbus.sites.prepare import prepare_sites
from fedbus.transport.messages import Instruction
from tests.fedbus.privacy.private_rows import CPU, patients_site, private_settings, rows_of

SETTINGS = private_settings(optimiser_state="kept", augmentation=True, steps_per_round=2)
SITE = patients_site()
ROWS = rows_of(SETTINGS, SITE)


class PowerCutError(Exception):
    """Raised to interrupt a round."""


@pytest.fixture(scope="module")
def start() -> State:
    return start_state(SETTINGS.model, "none", 7)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return place_model(SETTINGS.model, CPU)


@pytest.fixture
def run_round(model, start, tmp_path):
    def train(number: int = 1, received: State = start, name: str = "fedavg", **changes: object) -> State:
        given = {"seed": 0, "round_number": number, "present": None, "proximal_mu": 0.0, "deployed": True}
        memory = site_state(tmp_path, name, "north")
        given["released"] = memory.folder
        return train_site(model, SITE, ROWS, memory, received, SETTINGS, **(given | changes))[0]

    return train


def same(left: State, right: State) -> bool:
    return all(torch.equal(left[key], right[key]) for key in left)


def releases(tmp_path, name: str = "fedavg") -> int:
    folder = site_state(tmp_path, name, "north").folder
    return len(Ledger.open(folder, make_plan(ROWS, SETTINGS), deployed=True).releases)


def test_a_round_that_a_crashed_hub_repeats_gives_the_same_bits_for_free(run_round, tmp_path):
    first = run_round()
    second = run_round(2, first)
    assert same(run_round(2, first), second)
    assert releases(tmp_path) == 2


def test_a_hub_gets_no_more_rounds_than_planned_whatever_it_calls_them(run_round, start, tmp_path):
    first = run_round()
    run_round(2, first)
    for number, received in ((3, first), (1, first), (2, start)):  # another round, and other models for known rounds
        with pytest.raises(PrivacyError, match="budget of dp-epsilon is spent"):
            run_round(number, received)
    assert releases(tmp_path) == 2


def test_another_model_for_the_same_round_gets_other_noise_and_counts(run_round, start, tmp_path):
    """With the same noise, the difference of the two updates would be free of it."""
    near = start | {"classifier.bias": start["classifier.bias"] + 1e-3}
    one, other = run_round(1, start), run_round(1, near)
    moved = [
        torch.cat([(after[k] - before[k]).ravel() for k in start]) for after, before in ((one, start), (other, near))
    ]
    assert abs(float(torch.corrcoef(torch.stack(moved))[0, 1])) < 0.1
    assert releases(tmp_path) == 2


def test_a_round_is_charged_before_it_is_trained_and_repeated_to_the_same_bits(run_round, tmp_path):
    def cut(count: int) -> None:
        raise PowerCutError

    with pytest.raises(PowerCutError):
        run_round(progress=cut)
    assert releases(tmp_path) == 1
    assert same(run_round(), run_round())
    assert releases(tmp_path) == 1


def test_the_noise_of_a_deployed_site_does_not_follow_from_the_seed_and_that_of_a_simulation_does(run_round):
    assert not same(run_round(name="one"), run_round(name="two"))
    assert same(run_round(name="three", deployed=False), run_round(name="four", deployed=False))


def test_the_hub_gets_epsilon_in_place_of_the_training_loss_and_reads_a_refusal(two_site_settings, tmp_path):
    changes = {"model": SETTINGS.model, "dp_epsilon": 8.0, "dp_delta": 1e-3, "rounds": 1, "precision": "float32"}
    settings = two_site_settings.model_copy(update=changes)
    prepare_sites(settings, tmp_path)
    limits = Limits(min_images=1, min_update_images=2, min_split_patients=1)
    workspace = Workspace(tmp_path, "north", "cpu", limits=limits)
    instruction = Instruction(settings, 7, (0, 1, 2), title="run", round=1)
    received = start_state(settings.model, "none", 7)
    state, report = work.train(workspace, instruction, received)
    assert report.loss == 0
    assert 7.9 < report.epsilon <= 8
    with pytest.raises(RefusedError, match="budget of dp-epsilon is spent: 1 rounds"):
        work.train(workspace, instruction, state)
    too_large = settings.model_copy(update={"batch_size": 4096})
    with pytest.raises(RefusedError, match="batch-size = 4096 is too large for north"):
        work.register(workspace, replace(instruction, settings=too_large))
