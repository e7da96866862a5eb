"""What a site does with an instruction: the state that it reads and stores between rounds, and what it sends."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clients import work
from clients.workspace import Workspace
from fedbus.errors import RunError
from fedbus.models.batch_norm import own_names
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_state import OPTIMISER, local_batch_norm, site_state
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.training.rows import site_rows
from fedbus.transport.messages import Instruction
from simulations.local_training import LocalTraining

EVERY_CLASS = (0, 1, 2)


@pytest.fixture
def workspace(two_site_settings: Settings, tmp_path: Path) -> Workspace:
    """A site in a folder of its own, without stored state."""
    prepare_sites(two_site_settings, tmp_path / "ward")
    return Workspace(tmp_path / "ward", "north", "cpu")


@pytest.fixture
def start(two_site_settings: Settings) -> State:
    return start_state(two_site_settings.model, "none", 7)


def instruction(settings: Settings, number: int, **changes: object) -> Instruction:
    return Instruction(settings.model_copy(update=changes), 7, EVERY_CLASS, title="run", round=number)


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def scores(report: object) -> list[float]:
    return [*report.score.confusion.ravel().tolist(), *report.score.loss_sums.tolist()]


def alone(settings: Settings, site: Site, start: State, folder: Path) -> State:
    """Local training at the site, which keeps its optimiser between rounds."""
    rows = site_rows(site, settings, 7, torch.device("cpu"))
    arm = ArmFolder(folder)
    LocalTraining(settings, 7, rows, [site], rows.steps_per_round(settings), start).run(arm)
    return arm.load_weights("final")


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_one_site_with_a_kept_optimiser_equals_local_training(
    optimiser, two_site_settings, tiny_sites, workspace, start, tmp_path
):
    settings = two_site_settings.model_copy(update={"optimiser": optimiser})
    finals = {}
    for policy in ("kept", "reset"):
        finals[policy] = start
        for number in (1, 2, 3):
            finals[policy], _ = work.train(
                workspace, instruction(settings, number, optimiser_state=policy), finals[policy]
            )
    expected = alone(settings, tiny_sites["north"], start, tmp_path / "alone")
    assert same(finals["kept"], expected)
    assert not same(finals["reset"], expected)


def test_by_default_a_site_stores_no_state(two_site_settings, workspace, start):
    work.train(workspace, instruction(two_site_settings, 1), start)
    assert not (workspace.folder / "memory").exists()


def test_a_kept_optimiser_is_stored_for_two_rounds_and_read_from_the_previous_one(two_site_settings, workspace, start):
    sent = []
    for number in (1, 2, 3):
        sent.append(work.train(workspace, instruction(two_site_settings, number, optimiser_state="kept"), start)[0])
    assert [path.name for path in sorted((workspace.folder / "memory" / "run" / "north").iterdir())] == [
        "optimiser-00002.safetensors", "optimiser-00003.safetensors",
    ]  # fmt: skip
    assert same(work.train(workspace, instruction(two_site_settings, 3, optimiser_state="kept"), start)[0], sent[2]), (
        "repeated"
    )
    steps = site_state(workspace.folder, "run", "north").load(OPTIMISER, 3)["0/step"]
    assert steps == 3 * work.train(workspace, instruction(two_site_settings, 1), start)[1].steps


@pytest.mark.parametrize("policy", ["local", "local-statistics"])
def test_local_batch_norm_never_leaves_the_site(policy, two_site_settings, workspace, start):
    own = own_names(policy, start)
    first, _ = work.train(workspace, instruction(two_site_settings, 1, batch_norm=policy), start)
    shared, _ = work.train(workspace, instruction(two_site_settings, 1), start)
    kept = local_batch_norm(workspace.folder, "run", "north", 1)
    assert sorted(kept) == own
    for name, value in shared.items():
        assert torch.equal(first[name], start[name] if name in own else value), name
        assert name not in own or torch.equal(kept[name], value), "round 1 trains the BatchNorm that came in"
    assert not same(kept, {name: start[name] for name in own})


@pytest.mark.parametrize("policy", ["local", "local-statistics"])
def test_the_next_round_uses_the_sites_own_batch_norm(policy, two_site_settings, workspace, start):
    work.train(workspace, instruction(two_site_settings, 1, batch_norm=policy), start)
    incoming = start_state(two_site_settings.model, "none", 8)
    mine = incoming | local_batch_norm(workspace.folder, "run", "north", 1)
    sent, report = work.train(workspace, instruction(two_site_settings, 2, batch_norm=policy), incoming)
    trained, expected = work.train(workspace, instruction(two_site_settings, 2), mine)
    _, foreign = work.train(workspace, instruction(two_site_settings, 2), incoming)
    own = own_names(policy, start)
    assert scores(report) == scores(expected) != scores(foreign)
    assert report.loss == expected.loss
    assert same(local_batch_norm(workspace.folder, "run", "north", 2), {name: trained[name] for name in own})
    assert same(sent, trained | {name: incoming[name] for name in own})


def test_a_model_is_evaluated_and_kept_with_the_batch_norm_of_its_round(two_site_settings, workspace, start, tmp_path):
    for number in (1, 2):
        work.train(workspace, instruction(two_site_settings, number, batch_norm="local"), start)
    deployed = Workspace(workspace.folder, workspace.name, workspace.device, tmp_path / "models")
    found = []
    for number in (0, 1, 2):
        asked = instruction(two_site_settings, number, batch_norm="local")
        asked = Instruction(asked.settings, asked.seed, asked.classes, "test", asked.title, number)
        found.append(scores(work.evaluate(deployed, asked, start)))
        mine = start | local_batch_norm(workspace.folder, "run", "north", number)
        folder = f"run.{number + 1}" if number else "run"  # none is overwritten
        assert same(load_file(tmp_path / "models" / folder / "model.safetensors"), mine)
        assert found[-1] == scores(
            work.evaluate(workspace, Instruction(two_site_settings, 7, EVERY_CLASS, "test"), mine)
        )
    assert len({tuple(score) for score in found}) == 3


def test_state_of_an_earlier_run_of_the_same_name_is_not_read(two_site_settings, workspace, start):
    policy = {"batch_norm": "local", "optimiser_state": "kept"}
    work.train(workspace, instruction(two_site_settings, 1, **policy), start)
    fresh, _ = work.train(workspace, replace(instruction(two_site_settings, 2, **policy), title="another"), start)
    restarted, _ = work.train(workspace, replace(instruction(two_site_settings, 2, **policy), run="0a"), start)
    resumed, _ = work.train(workspace, instruction(two_site_settings, 2, **policy), start)
    assert same(restarted, fresh)
    assert not same(restarted, resumed)


@pytest.mark.parametrize("policy", [{"batch_norm": "local"}, {"optimiser_state": "kept"}])
def test_a_damaged_state_file_stops_the_round_and_is_named(policy, two_site_settings, workspace, start):
    work.train(workspace, instruction(two_site_settings, 1, **policy), start)
    (path,) = (workspace.folder / "memory" / "run" / "north").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=path.name):
        work.train(workspace, instruction(two_site_settings, 2, **policy), start)
    path.unlink()
    fresh, _ = work.train(workspace, instruction(two_site_settings, 2, **policy), start)
    assert fresh.keys() == start.keys()
