"""What a site does with an order: score the model that came in, train it, send it back.

A process is kept warm: its model is built once, and each site's balanced rows are put on the device once a seed.
"""

import time
from functools import lru_cache

import torch
from torch import nn

from clients.place import Place
from fedbus.device import pick_device
from fedbus.fitting import place_model, site_rows
from fedbus.manifest import CLASSES
from fedbus.models import State, get_state, set_state
from fedbus.sites import Site, open_site
from fedbus.study import Study
from fedbus.training import TrainingRows, make_optimiser, train_round
from fedbus.transport import Hello, Order, Report
from fedbus.validation import score_part


def introduce(place: Place) -> Hello:
    """Say who this site is and how many training images of each class it has."""
    site = _site(place)
    labels = site.labels[site.parts["train"]]
    return Hello(place.name, tuple(int((labels == index).sum()) for index in range(len(CLASSES))))


def train(place: Place, order: Order, state: State) -> tuple[State, Report]:
    """Score the incoming model on the validation rows, then train it for one round.

    The optimiser starts anew each round: what it remembers belongs to weights that were averaged away.
    """
    began = time.monotonic()
    study, device = order.study, pick_device(place.device)
    model, rows = _model(study, device), _rows(place, study, order.seed, device)
    set_state(model, state)
    score = score_part(model, _site(place), "validation", study, _known(order))
    steps = rows.steps_per_round(study)
    loss = train_round(
        model, rows, study, seed=order.seed, round_number=order.round, steps=steps,
        optimiser=make_optimiser(model, study), proximal_mu=order.proximal_mu,
    )  # fmt: skip
    report = Report(weigh(rows, study), score, loss, steps, time.monotonic() - began)
    return get_state(model), report


def evaluate(place: Place, order: Order, state: State) -> Report:
    """Score the incoming model on the part that the order names."""
    began = time.monotonic()
    model, site = _model(order.study, pick_device(place.device)), _site(place)
    set_state(model, state)
    score = score_part(model, site, order.part, order.study, _known(order))
    return Report(float(len(site.parts[order.part])), score, seconds=time.monotonic() - began)


def weigh(rows: TrainingRows, study: Study) -> float:
    """What the average weighs this site by."""
    return {"distinct": float(rows.distinct), "balanced": float(len(rows.index)), "equal": 1.0}[study.site_weights]


def _known(order: Order) -> torch.Tensor | None:
    """The classes that the shared model may predict: under `mask`, those that some site trains on."""
    return torch.tensor(order.classes) if order.study.missing_classes == "mask" else None


@lru_cache(maxsize=1)
def _model_of(name: str, device: torch.device) -> nn.Module:
    return place_model(name, device)


def _model(study: Study, device: torch.device) -> nn.Module:
    return _model_of(study.model, device)


@lru_cache(maxsize=64)
def _site(place: Place) -> Site:
    return open_site(place.out, place.name)


@lru_cache(maxsize=64)
def _rows_of(place: Place, settings: str, seed: int, device: torch.device) -> TrainingRows:
    return site_rows(_site(place), Study.model_validate_json(settings), seed, device)


def _rows(place: Place, study: Study, seed: int, device: torch.device) -> TrainingRows:
    return _rows_of(place, study.for_sites(), seed, device)
