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
from clients.workspace import Place
from fedbus.classes import CLASSES
from fedbus.device import pick_device
from fedbus.evaluation.predict import predict_part
from fedbus.evaluation.site_scores import score_site
from fedbus.evaluation.validation import score_part, score_probabilities
from fedbus.models.batch_norm import own_names
from fedbus.models.build import build_model, place_model
from fedbus.models.state import State, get_state, set_state
from fedbus.runs.site_state import BATCH_NORM, KEPT_OPTIMISERS, OPTIMISER, own_model, site_memory
from fedbus.settings.schema import Study
from fedbus.sites.site import Site, open_site, read_facts
from fedbus.sites.split import PARTS
from fedbus.training.loop import train_round
from fedbus.training.missing_classes.registry import predictable
from fedbus.training.optimiser import make_optimiser, optimiser_tensors, restore_optimiser
from fedbus.training.rows import TrainingRows, site_rows
from fedbus.transport.messages import Hello, Order, Report
from fedbus.transport.packing import Layout, layout_of


def introduce(place: Place, order: Order) -> Hello:
    """Say who this site is and how many images it has of what."""
    site, facts = _site(place), read_facts(place.out)[place.name]
    balanced = _rows(place, order.study, order.seed, torch.device("cpu")).labels.numpy()
    return Hello(
        site=place.name,
        labels=CLASSES,
        image_size=int(site.pixels.shape[1]),
        parts={part: _count(site.labels[site.parts[part]]) for part in PARTS},
        balanced=_count(balanced),
        groups=int(facts["groups"]),
        patients=int(facts["patients"] or 0),
        dropped=len(facts["dropped"]),
        phantoms=facts["reader"] == "phantoms",
    )


def layout(order: Order) -> Layout:
    """The names and shapes of the study's model."""
    return _layout_of(order.study.model)


def train(place: Place, order: Order, state: State) -> tuple[State, Report]:
    """Score the incoming model on the validation rows, then train it for one round.

    The optimiser starts anew each round, as what it remembers belongs to weights that were averaged away, unless the
    study has it kept. What of BatchNorm is the site's own replaces what came in, which goes back unchanged.
    """
    began = time.monotonic()
    study, device = order.study, pick_device(place.device)
    model, rows = _model(study, device), _rows(place, study, order.seed, device)
    set_state(model, own_model(state, study.batch_norm, place.out, order.memory, place.name, order.round - 1))
    score = score_part(model, _site(place), "validation", study, _known(order))
    steps = rows.steps_per_round(study)
    memory, optimiser = site_memory(place.out, order.memory, place.name), make_optimiser(model, study)
    if study.optimiser_state == "kept":
        restore_optimiser(optimiser, memory.recall(OPTIMISER, order.round - 1))
    loss = train_round(
        model, rows, study, seed=order.seed, round_number=order.round, steps=steps,
        optimiser=optimiser, proximal_mu=order.proximal_mu,
    )  # fmt: skip
    trained = get_state(model)
    if study.optimiser_state == "kept":
        memory.keep(OPTIMISER, order.round, optimiser_tensors(optimiser), KEPT_OPTIMISERS)
    if own := own_names(study.batch_norm, trained):
        memory.keep(BATCH_NORM, order.round, {name: trained[name] for name in own})
        trained |= {name: state[name] for name in own}
    report = Report(weigh(rows, study), score, loss, steps, time.monotonic() - began)
    return trained, report


def evaluate(place: Place, order: Order, state: State) -> Report:
    """Score the incoming model on the part that the order names.

    The model that is scored on the test rows is the one that the run kept: a deployed site keeps it too, and says
    how good it is there with intervals, because the hub will never see its predictions.
    """
    began = time.monotonic()
    study, site = order.study, _site(place)
    model = _model(study, pick_device(place.device))
    state = own_model(state, study.batch_norm, place.out, order.memory, place.name, order.round)
    set_state(model, state)
    predictions = predict_part(model, site, order.part, study, _known(order))
    score, test = score_probabilities(predictions.labels, predictions.probabilities), None
    if order.part == "test" and place.models is not None:
        test = score_site(predictions, study.bootstrap, study.draw_seed)
        keep_model(place.models / order.title, place.name, order, state, test)
    return Report(float(len(predictions.labels)), score, seconds=time.monotonic() - began, test=test)


def _count(labels: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(count) for count in np.bincount(labels, minlength=len(CLASSES)))


def weigh(rows: TrainingRows, study: Study) -> float:
    """What the average weighs this site by."""
    return {"distinct": float(rows.distinct), "balanced": float(len(rows.index)), "equal": 1.0}[study.site_weights]


def _known(order: Order) -> torch.Tensor | None:
    """The classes that the shared model may predict: under `mask`, those that some site trains on."""
    return predictable(torch.tensor(order.classes), order.study)


@lru_cache(maxsize=1)
def _model_of(name: str, device: torch.device) -> nn.Module:
    return place_model(name, device)


def _model(study: Study, device: torch.device) -> nn.Module:
    return _model_of(study.model, device)


@lru_cache(maxsize=4)
def _layout_of(name: str) -> Layout:
    return layout_of(get_state(build_model(name)))


@lru_cache(maxsize=64)
def _site(place: Place) -> Site:
    return open_site(place.out, place.name)


@lru_cache(maxsize=64)
def _rows_of(place: Place, settings: str, seed: int, device: torch.device) -> TrainingRows:
    return site_rows(_site(place), Study.model_validate_json(settings), seed, device)


def _rows(place: Place, study: Study, seed: int, device: torch.device) -> TrainingRows:
    return _rows_of(place, study.for_sites(), seed, device)
