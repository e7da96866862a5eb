"""Flower's strategies by name, and the state of theirs that a checkpoint contains."""

from typing import Any

import numpy as np
import torch
from flwr.serverapp import strategy as flower
from flwr.serverapp.strategy import Strategy
from torch import Tensor

from fedbus.errors import SettingsError
from fedbus.settings.schema import Settings
from fedbus.transport.report import WEIGHT

STRATEGY_CLASSES: dict[str, type[Strategy]] = {
    "fedavg": flower.FedAvg,
    "fedprox": flower.FedProx,
    "fedavgm": flower.FedAvgM,
    "fedadam": flower.FedAdam,
    "fedyogi": flower.FedYogi,
    "fedadagrad": flower.FedAdagrad,
    "qfedavg": flower.QFedAvg,
    "fedmedian": flower.FedMedian,
    "fedtrimmedavg": flower.FedTrimmedAvg,
    "krum": flower.Krum,
    "multikrum": flower.MultiKrum,
    "bulyan": flower.Bulyan,
}

NEEDS_COPIES = frozenset({"qfedavg"})
"""Strategies that write to the arrays of updates; the others get them read-only."""

STATE_ATTRIBUTES = ("m_t", "v_t", "momentum_vector")
"""Attributes in which Flower's strategies keep moments between rounds."""


def make_strategy(arm: str, settings: Settings) -> Strategy:
    """Build the strategy of an arm, with every connected site in every round.

    All minimum numbers of nodes are 1, because Flower waits for them without a time limit; the round loop waits for the
    quorum itself.

    Raises:
        SettingsError: If `strategy-options` names an argument that the strategy does not have.
    """
    arguments: dict[str, Any] = {
        "fraction_train": 1.0,
        "fraction_evaluate": 1.0,
        "min_train_nodes": 1,
        "min_evaluate_nodes": 1,
        "min_available_nodes": 1,
        "weighted_by_key": WEIGHT,
    }
    if arm == "fedprox":
        arguments["proximal_mu"] = settings.proximal_mu
    if arm == "qfedavg":
        arguments |= {"client_learning_rate": settings.learning_rate, "train_loss_key": "train-loss"}
    arguments |= {key.replace("-", "_"): value for key, value in settings.strategy_options.get(arm, {}).items()}
    try:
        return STRATEGY_CLASSES[arm](**arguments)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"strategy-options.{arm}: {error}.",
            f"See the arguments of {STRATEGY_CLASSES[arm].__name__} in Flower.",
        ) from error


def strategy_state(strategy: Strategy) -> dict[str, Tensor]:
    """Return the strategy's moments as tensors, so that a resumed run equals an uninterrupted one."""
    found: dict[str, Tensor] = {}
    for attribute in STATE_ATTRIBUTES:
        moments = getattr(strategy, attribute, None)
        if moments:
            pairs = moments.items() if isinstance(moments, dict) else enumerate(moments)
            found |= {f"{attribute}/{key}": torch.from_numpy(np.ascontiguousarray(value)) for key, value in pairs}
    return found


def restore_strategy(strategy: Strategy, state: dict[str, Tensor]) -> None:
    """Set the moments of a strategy to what `strategy_state` returned."""
    for attribute in STATE_ATTRIBUTES:
        prefix = f"{attribute}/"
        moments = {key.removeprefix(prefix): value.numpy() for key, value in state.items() if key.startswith(prefix)}
        if not moments:
            continue
        ordered = attribute == "momentum_vector"  # a list, where the others are dictionaries
        setattr(strategy, attribute, [moments[str(i)] for i in range(len(moments))] if ordered else moments)
