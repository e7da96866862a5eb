"""What a site does with an instruction: score the received model, train it, send it back.

The process keeps what it needs again: its model is built once, and the balanced rows of each site and seed stay on the
device.
"""

import time
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.received_model import keep_model
from clients.workspace import Workspace
from fedbus.classes import CLASSES
from fedbus.device import pick_device
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.site_scores import score_site
from fedbus.evaluation.validation import score_probabilities, score_split
from fedbus.models.batch_norm import own_names
from fedbus.models.build import build_model, place_model
from fedbus.models.state import State, get_state, set_state
from fedbus.runs.site_state import BATCH_NORM, OPTIMISER, OPTIMISER_ROUNDS, own_model, site_state
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site, open_site, read_facts
from fedbus.sites.split import SPLITS
from fedbus.training.loop import train_round
from fedbus.training.missing_classes.registry import predictable
from fedbus.training.optimiser import make_optimiser, optimiser_tensors, restore_optimiser
from fedbus.training.rows import TrainingRows, site_rows
from fedbus.transport.messages import Instruction, Registration, Report
from fedbus.transport.packing import Layout, layout_of


def register(workspace: Workspace, instruction: Instruction) -> Registration:
    """Return the site's name and the counts of its images."""
    site, facts = _open_site(workspace), read_facts(workspace.folder)[workspace.name]
    rows = _training_rows(workspace, instruction.settings, instruction.seed, torch.device("cpu"))
    return Registration(
        site=workspace.name,
        labels=CLASSES,
        image_size=int(site.pixels.shape[1]),
        splits={split: _count(site.labels[site.splits[split]]) for split in SPLITS},
        balanced=_count(rows.labels.numpy()),
        groups=int(facts["groups"]),
        patients=int(facts["patients"] or 0),
        dropped=len(facts["dropped"]),
        phantoms=facts["reader"] == "phantoms",
    )


def layout(instruction: Instruction) -> Layout:
    """Return the names and shapes of the model that an instruction is about."""
    return _layout_of(instruction.settings.model)


def train(workspace: Workspace, instruction: Instruction, state: State) -> tuple[State, Report]:
    """Score the received model on the validation rows, then train it for one round.

    The optimiser is reset each round, because its state belongs to weights that have been averaged since, unless
    `optimiser-state` is `kept`. BatchNorm arrays that are the site's own replace the received ones, which are sent back
    unchanged.
    """
    started = time.monotonic()
    settings, device, previous = instruction.settings, pick_device(workspace.device), instruction.round - 1
    model, rows = _build_model(settings.model, device), _training_rows(workspace, settings, instruction.seed, device)
    memory = site_state(workspace.folder, instruction.memory, workspace.name)
    own_state = own_model(state, settings.batch_norm, workspace.folder, instruction.memory, workspace.name, previous)
    set_state(model, own_state)
    score = score_split(model, _open_site(workspace), "validation", settings, _predictable(instruction))
    steps, optimiser = rows.steps_per_round(settings), make_optimiser(model, settings)
    if settings.optimiser_state == "kept":
        restore_optimiser(optimiser, memory.load(OPTIMISER, previous))
    loss = train_round(
        model, rows, settings, seed=instruction.seed, round_number=instruction.round, steps=steps,
        optimiser=optimiser, proximal_mu=instruction.proximal_mu,
    )  # fmt: skip
    trained = get_state(model)
    if settings.optimiser_state == "kept":
        memory.save(OPTIMISER, instruction.round, optimiser_tensors(optimiser), OPTIMISER_ROUNDS)
    if own := own_names(settings.batch_norm, trained):
        memory.save(BATCH_NORM, instruction.round, {name: trained[name] for name in own})
        trained |= {name: state[name] for name in own}
    report = Report(site_weight(rows, settings), score, loss, steps, time.monotonic() - started)
    return trained, report


def evaluate(workspace: Workspace, instruction: Instruction, state: State) -> Report:
    """Score the received model on the requested split.

    Only the best model of a run is scored on the test rows. A deployed site keeps that model, and reports its metrics
    with intervals, because the hub never sees the site's predictions.
    """
    started = time.monotonic()
    settings, site = instruction.settings, _open_site(workspace)
    model = _build_model(settings.model, pick_device(workspace.device))
    state = own_model(
        state, settings.batch_norm, workspace.folder, instruction.memory, workspace.name, instruction.round
    )
    set_state(model, state)
    predictions = predict_split(model, site, instruction.split, settings, _predictable(instruction))
    score, test = score_probabilities(predictions.labels, predictions.probabilities), None
    if instruction.split == "test" and workspace.models is not None:
        test = score_site(predictions, settings.bootstrap, settings.draw_seed)
        keep_model(workspace.models / instruction.title, workspace.name, instruction, state, test)
    return Report(float(len(predictions.labels)), score, seconds=time.monotonic() - started, test=test)


def site_weight(rows: TrainingRows, settings: Settings) -> float:
    """Return the weight of this site in the average."""
    return {"distinct": float(rows.distinct), "balanced": float(len(rows.index)), "equal": 1.0}[settings.site_weights]


def _count(labels: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(CLASSES)))


def _predictable(instruction: Instruction) -> torch.Tensor | None:
    """Return the classes that the shared model can predict: under `mask`, those that at least one site trains on."""
    return predictable(torch.tensor(instruction.classes), instruction.settings)


@lru_cache(maxsize=1)
def _build_model(name: str, device: torch.device) -> nn.Module:
    return place_model(name, device)


@lru_cache(maxsize=4)
def _layout_of(name: str) -> Layout:
    return layout_of(get_state(build_model(name)))


@lru_cache(maxsize=64)
def _open_site(workspace: Workspace) -> Site:
    return open_site(workspace.folder, workspace.name)


@lru_cache(maxsize=64)
def _training_rows(workspace: Workspace, settings: Settings, seed: int, device: torch.device) -> TrainingRows:
    return site_rows(_open_site(workspace), settings, seed, device)
