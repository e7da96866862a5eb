"""What a site does with an instruction: score the received model, train it, send it back.

The process keeps what it needs again: its model is built once, and the balanced rows of each site and seed stay on the
device.
"""

import time
from dataclasses import replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from clients.given_model import leave_out_seen, set_given_state
from clients.limits.budget import budget_refusals
from clients.limits.disk import MOST_STATES, mark_used, remove_old_folders
from clients.limits.study import check_update, model_layout, time_limit
from clients.received_model import TrainedAt, keep_model
from clients.released import released_folder
from clients.site_training import train_site
from clients.workspace import Workspace
from fedbus.classes import CLASSES, class_counts
from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.evaluation.binned_counts import MALIGNANT, count_bins
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions
from fedbus.evaluation.site_calibration import measure_site_calibration
from fedbus.evaluation.site_scores import score_site
from fedbus.evaluation.temperature import likelihood_sums, scale
from fedbus.evaluation.validation import score_probabilities
from fedbus.model_folder.seen import seen_at
from fedbus.models.build import place_model
from fedbus.models.state import State, get_state, set_state
from fedbus.privacy.ledger import spent_epsilon
from fedbus.privacy.plan import make_plan
from fedbus.runs.site_state import own_model, site_state, state_folder
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site, open_site, read_facts
from fedbus.sites.split import SPLITS
from fedbus.training.federation import FederationRows
from fedbus.training.missing_classes.registry import predictable
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import TrainingRows, site_rows
from fedbus.transport.messages import BINS, EVALUATION, LIKELIHOODS, TRAINING, Instruction, Registration
from fedbus.transport.packing import Layout
from fedbus.transport.report import Report


def register(workspace: Workspace, instruction: Instruction) -> Registration:
    """Return the site's name and the counts of its images."""
    site, facts = _open_site(workspace), read_facts(workspace.folder)[workspace.name]
    rows = _training_rows(workspace, instruction.settings, instruction.seed, torch.device("cpu"))
    trains, equal = instruction.task == TRAINING, instruction.settings.batches == "equal"
    if workspace.limits and trains and equal:  # otherwise it depends on the other sites
        check_update(rows, instruction.settings, workspace.limits)
    if instruction.settings.dp_epsilon and trains and equal and instruction.settings.balance == "site":
        with budget_refusals(workspace.limits):
            make_plan(rows, instruction.settings)
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
    return model_layout(instruction.settings.model)


def forget() -> None:
    """Drop what the process keeps of the last run, so that a site's memory holds one run at a time."""
    for cache in (_build_model, _open_site, _training_rows):
        cache.cache_clear()


def train(workspace: Workspace, instruction: Instruction, state: State) -> tuple[State, Report]:
    """Score the received model on the validation rows, then train it for one round: see `train_site`."""
    if instruction.task != TRAINING:
        raise RunError("The hub asks to train in an evaluation.", "Run the same version of FedBUS everywhere.")
    started = time.monotonic()
    settings, device = instruction.settings, pick_device(workspace.device)
    rows = _training_rows(workspace, settings, instruction.seed, device, instruction.federation)
    if workspace.limits:
        check_update(rows, settings, workspace.limits)
        folder = state_folder(workspace.folder, instruction.memory)
        mark_used(folder)
        remove_old_folders(folder.parent, folder, MOST_STATES)
    memory = site_state(workspace.folder, instruction.memory, workspace.name)
    released = released_folder(workspace, instruction)
    with budget_refusals(workspace.limits):
        trained, score, loss = train_site(
            _build_model(settings.model, device), _open_site(workspace), rows, memory, state, settings,
            seed=instruction.seed, round_number=instruction.round, present=_predictable(instruction),
            proximal_mu=instruction.proximal_mu, progress=time_limit(workspace.limits),
            released=released, deployed=workspace.limits is not None,
        )  # fmt: skip
    steps = rows.steps_per_round(settings)
    epsilon = spent_epsilon(released, make_plan(rows, settings)) if settings.dp_epsilon else None
    return trained, Report(
        rows.weight(settings), score, loss, steps, time.monotonic() - started, epsilon=epsilon
    )  # fmt: skip


def evaluate(
    workspace: Workspace, instruction: Instruction, state: State, seen: NDArray[np.uint8] | None = None
) -> Report:
    """Score the received model on the requested split.

    Only one model of a run is scored on the test rows: the one that `keep` chooses. A deployed site keeps that model,
    and reports its metrics with intervals, because the hub never sees the site's predictions. A model that the
    coordinator gives is tested likewise, but not kept.

    Args:
        workspace: The site's workspace.
        instruction: What to score the model on.
        state: The model.
        seen: uint8 [N, 32], hashes of the images that a given model was trained or chosen on; None if it has none.
    """
    if instruction.task == EVALUATION:
        return _evaluate_given(workspace, instruction, state, seen)
    started = time.monotonic()
    settings, site, device = instruction.settings, _open_site(workspace), pick_device(workspace.device)
    model, testing = _build_model(settings.model, device), instruction.split == "test"
    state = own_model(
        state, settings.batch_norm, workspace.folder, instruction.memory, workspace.name, instruction.round
    )
    set_state(model, state)
    if (testing or instruction.collect) and settings.recalibrate:  # calibrated is the model that is tested
        rows = _training_rows(workspace, settings, instruction.seed, device, instruction.federation)
        recalibrate(model, rows, settings)
        state = get_state(model)
    predictions = predict_split(model, site, instruction.split, settings, _predictable(instruction))
    score, test = score_probabilities(predictions.labels, predictions.probabilities), None
    calibrated = None
    if testing and workspace.models is not None:
        test = score_site(predictions, settings.bootstrap, settings.draw_seed)
        workspace.on_model(keep_model(workspace.models, _trained_at(workspace, site), instruction, state, test))
        if instruction.calibration:
            calibrated = measure_site_calibration(
                predictions, instruction.calibration, settings.bootstrap, settings.draw_seed
            )
    report = Report(float(len(predictions.labels)), score, test=test, calibrated=calibrated)
    report = _collect(report, predictions, instruction)
    return replace(report, seconds=time.monotonic() - started)


def _collect(report: Report, predictions: Predictions, instruction: Instruction) -> Report:
    """Add the sums from which the hub fits temperature and threshold, if the instruction collects them."""
    labels, probabilities = predictions.labels, predictions.probabilities
    if instruction.collect == LIKELIHOODS:
        return replace(report, likelihoods=likelihood_sums(labels, probabilities))
    if instruction.collect == BINS:
        return replace(report, bins=count_bins(labels, scale(probabilities, instruction.temperature)[:, MALIGNANT]))
    return report


def _evaluate_given(
    workspace: Workspace, instruction: Instruction, state: State, seen: NDArray[np.uint8] | None
) -> Report:
    """Test a model that the coordinator gives: see `clients.given_model`."""
    started = time.monotonic()
    settings, site, device = instruction.settings, _open_site(workspace), pick_device(workspace.device)
    if seen is not None:
        site = leave_out_seen(workspace, site, instruction, seen)
    model = _build_model(settings.model, device)
    batch_norm = set_given_state(
        model, workspace, site, instruction, state,
        lambda: _training_rows(workspace, settings, instruction.seed, device, instruction.federation),
    )  # fmt: skip
    limit = time_limit(workspace.limits)
    predictions = predict_split(model, site, "test", settings, _predictable(instruction), limit)
    score = score_probabilities(predictions.labels, predictions.probabilities)
    test = score_site(predictions, settings.bootstrap, settings.draw_seed)
    seconds = time.monotonic() - started
    return Report(float(len(predictions.labels)), score, seconds=seconds, test=test, batch_norm=batch_norm)


def _trained_at(workspace: Workspace, site: Site) -> TrainedAt:
    """Return what the site records about itself in the models that it receives."""
    facts = read_facts(workspace.folder)[site.name]
    return TrainedAt(
        site.name,
        class_counts(site.labels[np.unique(site.splits["train"])]),
        seen_at(workspace.folder, site),
        phantoms=facts["reader"] == "phantoms",
    )


def _count(labels: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(CLASSES)))


def _predictable(instruction: Instruction) -> torch.Tensor | None:
    """Return the classes that the shared model can predict: under `mask`, those that at least one site trains on."""
    return predictable(torch.tensor(instruction.classes), instruction.settings)


@lru_cache(maxsize=1)
def _build_model(name: str, device: torch.device) -> nn.Module:
    return place_model(name, device)


@lru_cache(maxsize=64)
def _open_site(workspace: Workspace) -> Site:
    return open_site(workspace.folder, workspace.name)


@lru_cache(maxsize=64)
def _training_rows(
    workspace: Workspace, settings: Settings, seed: int, device: torch.device, federation: FederationRows | None = None
) -> TrainingRows:
    return site_rows(_open_site(workspace), settings, seed, device, federation)
