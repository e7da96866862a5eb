"""The in-process engine ends with the bits of Flower's, policy by policy, and needs no Flower."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.models.start import start_state
from fedbus.runs.checkpoint import ArmFolder
from fedbus.settings.schema import Settings
from fedbus.sites.prepare import prepare_sites
from fedbus.sites.site import Site
from fedbus.training.rows import federation_rows, site_rows
from fedbus.transport.messages import Instruction
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from server.rounds.registration import register_sites
from simulations.in_process import InProcessTraining
from tests.bare_machine import BLOCKER
from tests.grid import LocalGrid

SEED = 7

POLICIES = {
    "plain averaging": {},
    "FedProx": {"proximal_mu": 0.5},
    "masked classes": {"missing_classes": "mask"},
    "distilled classes": {"missing_classes": "distil"},
    "classifier by class": {"missing_classes": "softened", "head": "by-class"},
    "BatchNorm pooled": {"batch_norm": "pooled"},
    "BatchNorm frozen": {"batch_norm": "frozen"},
    "BatchNorm local": {"batch_norm": "local", "keep": "last"},
    "statistics local": {"batch_norm": "local-statistics", "optimiser_state": "kept", "recalibrate": True},
    "federation's balance": {"balance": "federation", "site_weights": "balanced"},
    "proportional batches": {"balance": "federation", "batches": "proportional", "keep": "last"},
    "differential privacy": {
        "model": "test_efficientnet_gn", "dp_epsilon": 8.0, "dp_delta": 1e-3, "precision": "float32", "batch_size": 4,
    },
    "half precision": {"payload": "flat-fp16"},
    "equal weights": {"site_weights": "equal", "steps_per_round": 2},
}  # fmt: skip


def in_process(settings: Settings, folder: Path, sites: dict[str, Site], arm: str) -> ArmFolder:
    device, federation = pick_device("cpu"), federation_rows(settings, sites, SEED)
    rows = {name: site_rows(site, settings, SEED, device, federation) for name, site in sites.items()}
    start, result = start_state(settings.model, "none", SEED), ArmFolder(folder / "arm")
    InProcessTraining(settings, folder, sites, rows, arm, SEED, start, result, arm).run()
    return result


def by_flower(settings: Settings, folder: Path, arm: str) -> ArmFolder:
    grid, result = LocalGrid(folder, list(settings.sites)), ArmFolder(folder / "arm")
    instruction = Instruction(settings, SEED, ())
    participants = register_sites(grid, len(settings.sites), instruction, 2, 5, threading.Event())
    start = start_state(settings.model, "none", SEED)
    run_rounds(grid, participants, Job(settings, arm, SEED, start, result, arm))
    return result


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_both_engines_end_with_the_same_bits(policy, two_site_settings, tmp_path):
    settings = two_site_settings.model_copy(update={"rounds": 4, **policy})
    sites = prepare_sites(settings, tmp_path / "flower")
    arm = "fedprox" if "proximal_mu" in policy else "fedavg"
    one = by_flower(settings, tmp_path / "flower", arm)
    other = in_process(settings, tmp_path / "in-process", sites, arm)
    for which in ("best", "final"):
        expected, found = one.load_weights(which), other.load_weights(which)
        assert expected.keys() == found.keys()
        assert [name for name in expected if not torch.equal(expected[name], found[name])] == [], which
    timed = {"seconds", "site_seconds"}
    assert [{k: v for k, v in line.items() if k not in timed} for line in other.read_history()] == [
        {k: v for k, v in line.items() if k not in timed} for line in one.read_history()
    ]
    differing = {"seconds"}
    assert {k: v for k, v in other.read_facts().items() if k not in differing} == {
        k: v for k, v in one.read_facts().items() if k not in differing
    }


def test_a_resumed_training_equals_an_uninterrupted_one(two_site_settings, tmp_path):
    settings = two_site_settings.model_copy(
        update={"rounds": 4, "batch_norm": "local", "optimiser_state": "kept", "keep": "last"}
    )
    sites = prepare_sites(settings, tmp_path / "sites")
    expected = in_process(settings, tmp_path / "uncut", sites, "fedavg")
    folder, start = ArmFolder(tmp_path / "cut" / "arm"), start_state(settings.model, "none", SEED)
    rows = {name: site_rows(site, settings, SEED, pick_device("cpu")) for name, site in sites.items()}
    training = InProcessTraining(settings, tmp_path / "cut", sites, rows, "fedavg", SEED, start, folder, "fedavg")

    def stop_after_three(line: dict[str, object]) -> None:
        if line["round"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.run(stop_after_three)
    assert folder.load().round == 3
    training.run()
    for which in ("best", "final"):
        one, other = expected.load_weights(which), folder.load_weights(which)
        assert all(torch.equal(one[name], other[name]) for name in one), which


def test_a_damaged_checkpoint_is_reported(two_site_settings, tmp_path):
    sites = prepare_sites(two_site_settings, tmp_path / "sites")
    (tmp_path / "arm").mkdir()
    (tmp_path / "arm" / "checkpoint.safetensors").write_bytes(b"x")
    with pytest.raises(RunError, match="missing or damaged"):
        in_process(two_site_settings, tmp_path, sites, "fedavg")


def test_it_needs_only_pytorch_timm_numpy_scikit_learn_and_safetensors():
    code = f"{BLOCKER}\nimport simulations.in_process"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
