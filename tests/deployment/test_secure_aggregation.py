"""Secure aggregation between real processes: the bits of a simulation; hub and sites that are killed."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.load import load_settings
from server.hub.admission import approve_site, revoke_site
from simulations.local_federation import PATIENCE_SECONDS, LocalFederation
from tests.archives import make_labels_csv
from tests.deployment.conftest import TIMEOUT_SECONDS, end_sites, words_of, write_settings
from tests.deployment.test_faults import TAMPERED, history_of, wait_for
from tests.deployment.test_join import simulate

pytestmark = pytest.mark.timeout(TIMEOUT_SECONDS)

SECURE = ("--set", "privacy=secure-aggregation")

STEPS = ("keys", "shares", "masked", "unmask")


@pytest.fixture(scope="module")
def finished(federation: LocalFederation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two rounds with three sites: the hub is killed in the second and started again, and it is resumed."""
    settings = write_settings(tmp_path_factory.mktemp("settings"), "secure")
    out = federation.hub.runs / "secure"
    cut = federation.run(settings, *SECURE)
    wait_for(lambda: len(history_of(out)) == 1, federation)
    federation.kill("hub")
    assert cut.wait(PATIENCE_SECONDS) == 1
    federation.start_hub()
    resumed = federation.run(settings, *SECURE, "--resume")
    assert resumed.wait(PATIENCE_SECONDS) == 0, federation.log("run").read_text()
    return out


def test_the_deployed_result_equals_the_simulated_one_bit_for_bit(finished, datasets, tmp_path):
    sites = {name: {"reader": reader, "path": str(path)} for name, (reader, path) in datasets.items()}
    path = write_settings(tmp_path, "simulated", cache=str(tmp_path / "cache"), privacy="secure-aggregation")
    settings = load_settings(path)
    simulated = simulate(settings.model_validate(settings.as_dict() | {"sites": sites}), tmp_path)
    for which in ("final", "best"):
        deployed, expected = load_file(finished / f"arms/fedavg/{which}.safetensors"), simulated.load_weights(which)
        assert deployed.keys() == expected.keys()
        assert all(torch.equal(deployed[key], expected[key]) for key in expected)
    here, there = history_of(finished), simulated.read_history()
    for key in ("validation", "train_loss", "steps", "participants"):
        assert [line[key] for line in here] == [line[key] for line in there]


def test_the_run_says_at_its_start_that_it_can_not_lose_a_site(finished, federation):
    assert "it cannot lose one" in words_of(federation, "run")


def test_the_hub_has_figures_of_all_sites_and_of_no_single_one(finished, federation):
    results = json.loads((finished / "results.json").read_text())
    assert results["arms"]["fedavg"].keys() == {"all", "mean"}
    facts = ArmFolder(finished / "arms" / "fedavg").read_facts()
    assert facts["site_scores"] == facts["site_calibrations"] == facts["test"]["sites"] == {}
    assert all(line["sites"] == line["site_seconds"] == {} for line in history_of(finished))
    own = [
        json.loads((site.models / "secure-fedavg-0" / "metrics.json").read_text()) for site in federation.sites.values()
    ]
    everywhere = results["arms"]["fedavg"]["all"]
    assert everywhere["images"] == sum(each["images"] for each in own)
    right = sum(each["accuracy"]["value"] * each["images"] for each in own)
    assert everywhere["accuracy"]["value"] == pytest.approx(right / everywhere["images"])
    mean = results["arms"]["fedavg"]["mean"]["macro_f1"]["value"]
    assert mean == pytest.approx(sum(each["macro_f1"]["value"] for each in own) / len(own))


def test_no_confusion_of_a_single_site_is_in_the_hubs_files(finished, federation):
    own = [
        json.loads((site.models / "secure-fedavg-0" / "metrics.json").read_text()) for site in federation.sites.values()
    ]
    texts = [path.read_text() for path in finished.rglob("*.json*") if path.name != "registrations.json"]
    for each in own:
        assert not any(json.dumps(each["confusion"]) in text for text in texts)


@pytest.fixture(scope="module")
def west(federation: LocalFederation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A fourth site, which dies at the next of `STEPS` whenever it takes part in a round."""
    data = make_labels_csv(tmp_path_factory.mktemp("west"), {"benign": 14, "malignant": 14, "normal": 14}, seed=4)
    site = federation.make_site("west").with_data("labels-csv", data)
    approve_site(federation.hub, site.public_key)
    for digest in federation.sites["east"].approvals().applications:
        site.approve_any_study(digest)
    federation.sites["west"] = site
    yield "west"
    end_sites(federation, ["west"])
    del federation.sites["west"]
    revoke_site(federation.hub, "west")


def start_dying(federation: LocalFederation, name: str) -> None:
    site = federation.sites[name]
    federation.spawn(name, [f"die={site.path / 'died'}", "--", "site", "join", str(site.path)], (TAMPERED,))


@pytest.fixture(scope="module")
def deaths(west: str, federation: LocalFederation, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """By step, the history line of the round in which west died at it; "last" is a later round with west."""
    settings = write_settings(tmp_path_factory.mktemp("settings"), "mortal", rounds=300, quorum=3)
    out, died = federation.hub.runs / "mortal", federation.sites[west].path / "died"
    start_dying(federation, west)
    federation.run(settings, *SECURE)
    for number in range(1, len(STEPS) + 1):
        wait_for(lambda n=number: died.is_file() and len(died.read_text().splitlines()) == n, federation)
        federation.processes.pop(west).wait(PATIENCE_SECONDS)
        start_dying(federation, west)
    rounds = {step: int(number) for step, number in map(str.split, died.read_text().splitlines())}

    def is_back() -> bool:
        lines = history_of(out)
        return len(lines) > rounds["unmask"] and west in lines[-1]["participants"]

    wait_for(is_back, federation)
    federation.leave("run")
    lines = history_of(out)
    return {step: lines[number - 1] for step, number in rounds.items()} | {"last": lines[-1]}


@pytest.mark.parametrize("step", ["keys", "shares", "masked"])
def test_a_round_continues_without_a_site_that_is_killed_before_its_masked_update_arrived(step, deaths, west):
    assert deaths[step]["participants"] == ["east", "north", "south"]
    assert list(deaths[step]["refused"]) == [west]


def test_the_update_of_a_site_that_is_killed_afterwards_is_in_the_sum(deaths, west):
    assert deaths["unmask"]["participants"] == ["east", "north", "south", west]
    assert deaths["unmask"]["refused"] == {}


def test_a_site_that_was_killed_takes_part_again(deaths, west):
    assert west in deaths["last"]["participants"]
