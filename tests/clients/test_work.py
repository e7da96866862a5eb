"""What a site does with an order: what it takes from its memory, what it keeps there, and what it sends."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from clients import work
from clients.workspace import Place
from fedbus.errors import RunError
from fedbus.models.batch_norm import own_names
from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_state import OPTIMISER, local_state, site_memory
from fedbus.settings.schema import Study
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.training.rows import site_rows
from fedbus.transport.messages import Order
from simulations.local_training import Fit

EVERY_CLASS = (0, 1, 2)


@pytest.fixture
def place(tiny_study: Study, tmp_path: Path) -> Place:
    """A site of its own folder: it remembers nothing yet."""
    prepare_sites(tiny_study, tmp_path / "ward")
    return Place(tmp_path / "ward", "north", "cpu")


@pytest.fixture
def start(tiny_study: Study) -> State:
    return start_state(tiny_study.model, "none", 7)


def order(study: Study, number: int, **changes: object) -> Order:
    return Order(study.model_copy(update=changes), 7, EVERY_CLASS, title="run", round=number)


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def scores(report: object) -> list[float]:
    return [*report.score.confusion.ravel().tolist(), report.score.loss_sum]


def alone(study: Study, site: Site, start: State, folder: Path) -> State:
    """The hospital's own training in one place, whose optimiser lives on between rounds."""
    rows = site_rows(site, study, 7, torch.device("cpu"))
    arm = ArmFolder(folder)
    Fit(study, 7, rows, [site], rows.steps_per_round(study), start).run(arm)
    return arm.load_weights("final")


@pytest.mark.parametrize("optimiser", ["adamw", "sgd"])
def test_one_client_with_a_kept_optimiser_is_that_hospital_alone(
    optimiser, tiny_study, tiny_sites, place, start, tmp_path
):
    study = tiny_study.model_copy(update={"optimiser": optimiser})
    finals = {}
    for policy in ("kept", "reset"):
        finals[policy] = start
        for number in (1, 2, 3):
            finals[policy], _ = work.train(place, order(study, number, optimiser_state=policy), finals[policy])
    expected = alone(study, tiny_sites["north"], start, tmp_path / "alone")
    assert same(finals["kept"], expected)
    assert not same(finals["reset"], expected)


def test_by_default_a_site_remembers_nothing(tiny_study, place, start):
    work.train(place, order(tiny_study, 1), start)
    assert not (place.out / "memory").exists()


def test_a_kept_optimiser_is_held_for_two_rounds_and_read_of_the_round_before(tiny_study, place, start):
    sent = []
    for number in (1, 2, 3):
        sent.append(work.train(place, order(tiny_study, number, optimiser_state="kept"), start)[0])
    assert [path.name for path in sorted((place.out / "memory" / "run" / "north").iterdir())] == [
        "optimiser-00002.safetensors", "optimiser-00003.safetensors",
    ]  # fmt: skip
    assert same(work.train(place, order(tiny_study, 3, optimiser_state="kept"), start)[0], sent[2]), "asked again"
    steps = site_memory(place.out, "run", "north").recall(OPTIMISER, 3)["0/step"]
    assert steps == 3 * work.train(place, order(tiny_study, 1), start)[1].steps


@pytest.mark.parametrize("policy", ["local", "local-statistics"])
def test_a_batch_norm_of_its_own_never_leaves_the_site(policy, tiny_study, place, start):
    own = own_names(policy, start)
    first, _ = work.train(place, order(tiny_study, 1, batch_norm=policy), start)
    shared, _ = work.train(place, order(tiny_study, 1), start)
    kept = local_state(place.out, "run", "north", 1)
    assert sorted(kept) == own
    for name, value in shared.items():
        assert torch.equal(first[name], start[name] if name in own else value), name
        assert name not in own or torch.equal(kept[name], value), "round 1 trains the BatchNorm that came in"
    assert not same(kept, {name: start[name] for name in own})


@pytest.mark.parametrize("policy", ["local", "local-statistics"])
def test_the_next_round_scores_and_trains_the_incoming_model_with_the_sites_own_batch_norm(
    policy, tiny_study, place, start
):
    work.train(place, order(tiny_study, 1, batch_norm=policy), start)
    incoming = start_state(tiny_study.model, "none", 8)
    mine = incoming | local_state(place.out, "run", "north", 1)
    sent, report = work.train(place, order(tiny_study, 2, batch_norm=policy), incoming)
    trained, expected = work.train(place, order(tiny_study, 2), mine)
    _, foreign = work.train(place, order(tiny_study, 2), incoming)
    own = own_names(policy, start)
    assert scores(report) == scores(expected) != scores(foreign)
    assert report.loss == expected.loss
    assert same(local_state(place.out, "run", "north", 2), {name: trained[name] for name in own})
    assert same(sent, trained | {name: incoming[name] for name in own})


def test_a_model_is_evaluated_and_received_with_the_batch_norm_of_its_round(tiny_study, place, start, tmp_path):
    for number in (1, 2):
        work.train(place, order(tiny_study, number, batch_norm="local"), start)
    deployed = Place(place.out, place.name, place.device, tmp_path / "models")
    found = []
    for number in (0, 1, 2):
        asked = order(tiny_study, number, batch_norm="local")
        asked = Order(asked.study, asked.seed, asked.classes, "test", asked.title, number)
        found.append(scores(work.evaluate(deployed, asked, start)))
        mine = start | local_state(place.out, "run", "north", number)
        assert same(load_file(tmp_path / "models" / "run" / "model.safetensors"), mine)
        assert found[-1] == scores(work.evaluate(place, Order(tiny_study, 7, EVERY_CLASS, "test"), mine))
    assert len({tuple(score) for score in found}) == 3


def test_what_an_earlier_run_of_the_same_name_left_is_not_taken_up(tiny_study, place, start):
    policy = {"batch_norm": "local", "optimiser_state": "kept"}
    work.train(place, order(tiny_study, 1, **policy), start)
    fresh, _ = work.train(place, replace(order(tiny_study, 2, **policy), title="another"), start)
    anew, _ = work.train(place, replace(order(tiny_study, 2, **policy), run="0a"), start)
    went_on, _ = work.train(place, order(tiny_study, 2, **policy), start)
    assert same(anew, fresh)
    assert not same(anew, went_on)


@pytest.mark.parametrize("policy", [{"batch_norm": "local"}, {"optimiser_state": "kept"}])
def test_a_damaged_memory_stops_the_round_by_name(policy, tiny_study, place, start):
    work.train(place, order(tiny_study, 1, **policy), start)
    (path,) = (place.out / "memory" / "run" / "north").iterdir()
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(RunError, match=path.name):
        work.train(place, order(tiny_study, 2, **policy), start)
    path.unlink()
    fresh, _ = work.train(place, order(tiny_study, 2, **policy), start)
    assert fresh.keys() == start.keys()
