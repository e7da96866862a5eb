"""Under secure aggregation both engines end with the same bits: without masks the sum is the same."""

import pytest
import torch

from fedbus.sites.site import Site, open_site
from tests.five_sites import SECURE, first
from tests.server.rounds.federation import federate
from tests.simulations.test_in_process import in_process

POLICIES = {
    "average": {},
    "pooled": {"batch_norm": "pooled"},
    "frozen": {"batch_norm": "frozen"},
    "local": {"batch_norm": "local", "keep": "last"},
    "local statistics": {"batch_norm": "local-statistics", "optimiser_state": "kept"},
    "FedProx, equal weights": {"proximal_mu": 0.5, "site_weights": "equal"},
    "half precision": {"payload": "flat-fp16", "batch_norm": "local", "keep": "last"},
    "proportional batches": {"balance": "federation", "batches": "proportional"},
}


@pytest.fixture(scope="module")
def sites(five_site_settings, five_folder) -> dict[str, Site]:
    return {name: open_site(five_folder, name) for name in first(five_site_settings, 3).sites}


@pytest.mark.parametrize("name", POLICIES)
def test_both_engines_end_with_the_same_bits(name, five_site_settings, five_folder, sites, tmp_path, quick_polls):
    settings = first(five_site_settings, 3, **SECURE, **POLICIES[name])
    arm = "fedprox" if "proximal_mu" in POLICIES[name] else "fedavg"
    one = federate(settings, five_folder, tmp_path / "flower", arm, title=f"engines-{list(POLICIES).index(name)}")
    other = in_process(settings, tmp_path, sites, arm)
    for which in ("best", "final"):
        expected, found = one.load_weights(which), other.load_weights(which)
        assert [key for key in expected if not torch.equal(expected[key], found[key])] == [], which
    timed = {"seconds"}
    assert [{k: v for k, v in line.items() if k not in timed} for line in other.read_history()] == [
        {k: v for k, v in line.items() if k not in timed} for line in one.read_history()
    ]
    facts = [{k: v for k, v in folder.read_facts().items() if k not in timed} for folder in (one, other)]
    assert facts[0] == facts[1]
    assert facts[0]["test"]["sites"] == {}
    assert all(line["sites"] == line["site_seconds"] == {} for line in one.read_history())
