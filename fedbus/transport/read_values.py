"""Read the parts of a message that are more than a number; every value is checked."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.errors import RunError
from fedbus.evaluation.calibration import Calibration
from fedbus.evaluation.metrics import FloatArray
from fedbus.evaluation.temperature import GRID
from fedbus.settings.load import build_settings
from fedbus.settings.schema import NOT_SENT, Settings, kebab
from fedbus.text import plain_text
from fedbus.training.federation import FederationRows

LIKELIHOOD_SUMS = "likelihood-sums"

MAX_LIKELIHOOD = 28.0
"""Likelihoods are clipped at 1e-12, whose negative logarithm is 27.6."""

MAX_ROWS = 10**9
"""More training rows than any federation has."""


def read_settings(text: str) -> Settings:
    """Read the settings of an instruction.

    Raises:
        ValueError: If they are not JSON, or contain what a site decides itself, such as paths and weights.
        SettingsError: If a setting is not valid.
    """
    values = dict(json.loads(text))
    foreign = sorted(values.keys() & {kebab(name) for name in NOT_SENT})
    if foreign:
        raise ValueError(f"its settings contain {', '.join(foreign)}, which a site does not take from a hub")
    return build_settings(values, "the server")


def read_federation(config: Mapping[str, Any]) -> FederationRows | None:
    """Read the sums over sites; None if an instruction has none.

    Raises:
        KeyError, TypeError, ValueError, OverflowError: If they are missing or out of range.
    """
    counts, balanced = tuple(int(count) for count in config["class-counts"]), int(config["balanced-rows"])
    if not counts and not balanced:
        return None
    if len(counts) != len(CLASSES) or min(counts) < 0 or not 0 < max(counts) <= balanced < MAX_ROWS:
        raise ValueError("the sums over sites are out of range")
    return FederationRows(counts, balanced)


def read_calibration(text: str) -> Calibration | None:
    """Read the calibration of an instruction.

    Raises:
        ValueError: If it is none; pydantic's error is one too.
    """
    return Calibration.model_validate_json(text) if text else None


def read_likelihoods(metrics: Mapping[str, Any], confusion: NDArray[np.int64]) -> FloatArray:
    """Read a site's sums at each temperature, float64 [49].

    Raises:
        ValueError: If they are not those of as many images as the confusion matrix counts.
    """
    sums = np.array(metrics[LIKELIHOOD_SUMS], dtype=np.float64)
    if sums.shape != (len(GRID),) or not ((sums >= 0) & (sums <= MAX_LIKELIHOOD * confusion.sum())).all():
        raise ValueError("its likelihoods are out of range")  # NaN fails too
    return sums


def not_valid(what: str, why: object) -> RunError:
    """Make the error for a message that its receiver refuses."""
    return RunError(f"{what} is not valid ({plain_text(why)}).", "Run the same version of FedBUS everywhere.")
