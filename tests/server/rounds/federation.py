"""A federation in this process: sites are registered, then one arm is trained."""

import threading
from functools import cache
from pathlib import Path

import torch

from fedbus.models.start import start_state
from fedbus.models.state import State
from fedbus.runs.checkpoint import ArmFolder
from fedbus.runs.site_keys import make_simulated_keys
from fedbus.settings.privacy_rules import SECURE
from fedbus.settings.schema import Settings
from fedbus.transport.messages import Instruction
from server.rounds.job import Job
from server.rounds.loop import run_rounds
from server.rounds.messaging import Participants
from server.rounds.registration import register_sites
from tests.grid import Hook, LocalGrid, Spoil


def federate(
    settings: Settings,
    prepared: Path,
    out: Path,
    arm: str = "fedavg",
    hook: Hook | None = None,
    spoil: Spoil | None = None,
    **job,
) -> ArmFolder:
    """Run one federated training in `out`, or resume the one in it."""
    grid = LocalGrid(
        prepared, list(settings.sites), hook, spoil or (lambda site, reply: None), job.get("shared_arrays")
    )
    folder = ArmFolder(out)
    if settings.privacy == SECURE:
        job.setdefault("sites", make_simulated_keys(prepared, settings.sites))
    run_rounds(grid, register(grid, settings), Job(settings, arm, 7, start_of(settings.model), folder, **job))
    return folder


@cache
def _start(model: str) -> State:
    return start_state(model, "none", 7)  # building a model takes longer than a round


def start_of(model: str) -> State:
    """The start weights of a federation, which the caller may change."""
    return {key: value.clone() for key, value in _start(model).items()}


def register(grid: LocalGrid, settings: Settings, stop: threading.Event | None = None) -> Participants:
    """Register all sites of a grid."""
    return register_sites(
        grid, len(grid.names), Instruction(settings, 7, ()), len(grid.names), 5, stop or threading.Event()
    )


def same(left: State, right: State) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)
