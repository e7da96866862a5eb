"""How much noise a training needs for its epsilon, and how much of epsilon is spent after each round.

Every step is a Gaussian mechanism on a sum of clipped gradients, over patients who are drawn independently (Abadi et
al., "Deep Learning with Differential Privacy", CCS 2016). Opacus accounts for it by Rényi differential privacy
(Mironov, Talwar and Zhang, 2019). All inputs are settings and registered counts, so that epsilon itself is public.
"""

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from fedbus.errors import SettingsError
from fedbus.privacy.patients import PrivacyError, largest_rate
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

ORDERS = [1.25, 1.5, 1.75, 2, 2.5, 3, 3.5, 4, 4.5, *range(5, 64), 80, 96, 128, 192, 256, 512, 1024]
"""Rényi orders of which the best counts. Opacus's own end at 63, too early for an epsilon of 0.1, and have a hundred
fractions below 11, which take most of the time and change the noise by 0.3 %."""


@dataclass(frozen=True)
class Plan:
    """What one training does with every patient of one owner of rows.

    Attributes:
        rate: The highest rate at which a patient is drawn in a step.
        steps: Steps per round.
        rounds: Rounds of the training.
        delta: The setting `dp-delta`.
        clip: The setting `dp-clip`.
        noise_multiplier: Standard deviation of the noise on the sum of the clipped gradients, in units of `clip`.
    """

    rate: float
    steps: int
    rounds: int
    delta: float
    clip: float
    noise_multiplier: float

    def epsilon(self, rounds: int) -> float:
        """Return the epsilon that the first `rounds` rounds have spent."""
        return 0.0 if not rounds else _epsilon(self.noise_multiplier, self.rate, self.steps * rounds, self.delta)


def make_plan(rows: TrainingRows, settings: "Settings", steps: int | None = None) -> Plan:
    """Plan a training, so that all its rounds together spend at most `dp-epsilon`.

    Args:
        rows: Its rows.
        settings: Settings of the comparison.
        steps: Optimiser steps per round; None: those that the rows take.

    Raises:
        PrivacyError: If the rows do not allow it, see `largest_rate`, or delta is no bound for so few patients.
        SettingsError: If Opacus is not installed, or knows no noise that is enough.
    """
    rate, steps = largest_rate(rows, settings), steps or rows.steps_per_round(settings)
    patients = 0 if rows.groups is None else int(rows.groups.max()) + 1
    if settings.dp_delta * patients >= 1:
        raise PrivacyError(
            f"dp-delta = {settings.dp_delta:g} is not below 1/{patients}, one over the training patients of "
            f"{rows.owner}: to publish one of them entirely would be allowed.",
            f"Use --set dp-delta={1 / (10 * patients):.0e} or less.",
        )
    noise = _noise_multiplier(settings.dp_epsilon, settings.dp_delta, rate, steps * settings.rounds)
    return Plan(rate, steps, settings.rounds, settings.dp_delta, settings.dp_clip, noise)


def epsilon_facts(history: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the `epsilon` that each site, or `pooled`, has spent by the end of a history; empty without a budget."""
    spent: dict[str, float] = {}
    for line in history:
        spent |= line.get("epsilon", {})
    return {"epsilon": spent} if spent else {}


@lru_cache(maxsize=64)
def _noise_multiplier(epsilon: float, delta: float, rate: float, steps: int) -> float:
    """Search the smallest noise, to a thousandth of epsilon."""
    try:
        from opacus.accountants.utils import get_noise_multiplier
    except ImportError as error:
        raise SettingsError(f"dp-epsilon needs Opacus ({error}).", "Install it: pip install opacus==1.6.*") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that a search begins outside the range of the Rényi orders
            return float(
                get_noise_multiplier(
                    target_epsilon=epsilon, target_delta=delta, sample_rate=rate, steps=steps, accountant="rdp",
                    epsilon_tolerance=epsilon / 1000, alphas=ORDERS,
                )
            )  # fmt: skip
    except ValueError as error:
        raise SettingsError(
            f"dp-epsilon = {epsilon:g} with dp-delta = {delta:g} can't be kept in {steps} steps ({error})",
            "Use a larger dp-epsilon, or fewer rounds.",
        ) from error


@lru_cache(maxsize=1024)
def _epsilon(noise_multiplier: float, rate: float, steps: int, delta: float) -> float:
    from opacus.accountants import RDPAccountant

    accountant = RDPAccountant()
    accountant.history = [(noise_multiplier, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that epsilon is so small that the largest Rényi order is the best
        return float(accountant.get_epsilon(delta=delta, alphas=ORDERS))
