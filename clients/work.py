"""What a site does with an order: score the model that came in, train it, send it back.

A process is kept warm: its model is built once, and each site's balanced rows are put on the device once a seed.
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
from fedbus.runs.site_state import BATCH_NORM, KEPT_OPTIMISERS, OPTIMISER, own_model, site_memory
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
    """Say who this site is and how many images it has of what."""
    site, facts = _site(workspace), read_facts(workspace.out)[workspace.name]
    balanced = _rows(workspace, instruction.settings, instruction.seed, torch.device("cpu")).labels.numpy()
    return Registration(
        site=workspace.name,
        labels=CLASSES,
        image_size=int(site.pixels.shape[1]),
        splits={split: _count(site.labels[site.splits[split]]) for split in SPLITS},
        balanced=_count(balanced),
        groups=int(facts["groups"]),
        patients=int(facts["patients"] or 0),
        dropped=len(facts["dropped"]),
        phantoms=facts["reader"] == "phantoms",
    )


def layout(instruction: Instruction) -> Layout:
    """The names and shapes of the study's model."""
    return _layout_of(instruction.settings.model)


def train(workspace: Workspace, instruction: Instruction, state: State) -> tuple[State, Report]:
    """Score the incoming model on the validation rows, then train it for one round.

    The optimiser starts anew each round, as what it remembers belongs to weights that were averaged away, unless the
    study has it kept. What of BatchNorm is the site's own replaces what came in, which goes back unchanged.
    """
    began = time.monotonic()
    settings, device = instruction.settings, pick_device(workspace.device)
    model, rows = _model(settings, device), _rows(workspace, settings, instruction.seed, device)
    set_state(
        model,
        own_model(state, settings.batch_norm, workspace.out, instruction.memory, workspace.name, instruction.round - 1),
    )
    score = score_split(model, _site(workspace), "validation", settings, _known(instruction))
    steps = rows.steps_per_round(settings)
    memory, optimiser = site_memory(workspace.out, instruction.memory, workspace.name), make_optimiser(model, settings)
    if settings.optimiser_state == "kept":
        restore_optimiser(optimiser, memory.recall(OPTIMISER, instruction.round - 1))
    loss = train_round(
        model, rows, settings, seed=instruction.seed, round_number=instruction.round, steps=steps,
        optimiser=optimiser, proximal_mu=instruction.proximal_mu,
    )  # fmt: skip
    trained = get_state(model)
    if settings.optimiser_state == "kept":
        memory.keep(OPTIMISER, instruction.round, optimiser_tensors(optimiser), KEPT_OPTIMISERS)
    if own := own_names(settings.batch_norm, trained):
        memory.keep(BATCH_NORM, instruction.round, {name: trained[name] for name in own})
        trained |= {name: state[name] for name in own}
    report = Report(weigh(rows, settings), score, loss, steps, time.monotonic() - began)
    return trained, report


def evaluate(workspace: Workspace, instruction: Instruction, state: State) -> Report:
    """Score the incoming model on the part that the order names.

    The model that is scored on the test rows is the one that the run kept: a deployed site keeps it too, and says
    how good it is there with intervals, because the hub will never see its predictions.
    """
    began = time.monotonic()
    settings, site = instruction.settings, _site(workspace)
    model = _model(settings, pick_device(workspace.device))
    state = own_model(state, settings.batch_norm, workspace.out, instruction.memory, workspace.name, instruction.round)
    set_state(model, state)
    predictions = predict_split(model, site, instruction.split, settings, _known(instruction))
    score, test = score_probabilities(predictions.labels, predictions.probabilities), None
    if instruction.split == "test" and workspace.models is not None:
        test = score_site(predictions, settings.bootstrap, settings.draw_seed)
        keep_model(workspace.models / instruction.title, workspace.name, instruction, state, test)
    return Report(float(len(predictions.labels)), score, seconds=time.monotonic() - began, test=test)


def _count(labels: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(CLASSES)))


def weigh(rows: TrainingRows, settings: Settings) -> float:
    """What the average weighs this site by."""
    return {"distinct": float(rows.distinct), "balanced": float(len(rows.index)), "equal": 1.0}[settings.site_weights]


def _known(instruction: Instruction) -> torch.Tensor | None:
    """The classes that the shared model may predict: under `mask`, those that some site trains on."""
    return predictable(torch.tensor(instruction.classes), instruction.settings)


@lru_cache(maxsize=1)
def _model_of(name: str, device: torch.device) -> nn.Module:
    return place_model(name, device)


def _model(settings: Settings, device: torch.device) -> nn.Module:
    return _model_of(settings.model, device)


@lru_cache(maxsize=4)
def _layout_of(name: str) -> Layout:
    return layout_of(get_state(build_model(name)))


@lru_cache(maxsize=64)
def _site(workspace: Workspace) -> Site:
    return open_site(workspace.out, workspace.name)


@lru_cache(maxsize=64)
def _rows_of(workspace: Workspace, settings: str, seed: int, device: torch.device) -> TrainingRows:
    return site_rows(_site(workspace), Settings.model_validate_json(settings), seed, device)


def _rows(workspace: Workspace, settings: Settings, seed: int, device: torch.device) -> TrainingRows:
    return _rows_of(workspace, settings.for_sites(), seed, device)
