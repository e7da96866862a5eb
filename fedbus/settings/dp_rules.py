"""Which settings exclude differential privacy for patients, and why."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

from fedbus.settings.arms import is_tuned

SAMPLERS = ("ros", "none")
"""Samplers whose effect on a patient follows from class counts alone; all others draw among patients or mix them."""

VALUES = 23_500_000
"""Values of a ResNet-50: the noise that hides a whole site is added to each of them."""

DEFAULT_SITES, EXAMPLE = 3, 8.0
"""Sites of settings that name none, and the epsilon of an example if none is set."""


class _Settings(Protocol):
    """What the rules need of `fedbus.settings.schema.Settings`, which itself imports them."""

    @property
    def arms(self) -> tuple[str, ...]: ...
    @property
    def sites(self) -> Mapping[str, Any]: ...
    @property
    def sampler(self) -> str: ...
    @property
    def split(self) -> str: ...
    @property
    def precision(self) -> str: ...
    @property
    def rounds(self) -> int: ...
    @property
    def dp_epsilon(self) -> float: ...
    @property
    def dp_delta(self) -> float: ...
    @property
    def dp_unit(self) -> str: ...


def check_differential_privacy(settings: _Settings) -> None:
    """Check that the guarantee can be given patient by patient.

    Raises:
        ValueError: If it can't.
    """
    _check_unit(settings)
    if not settings.dp_epsilon:
        return
    refused = f"dp-epsilon={settings.dp_epsilon:g} can't be combined with"
    if settings.sampler not in SAMPLERS:
        raise ValueError(
            f"{refused} sampler={settings.sampler}, by which the images of one patient "
            "change which others are used, or are mixed with them. Use sampler=ros or sampler=none"
        )
    if settings.split != "groups":
        raise ValueError(
            f"{refused} split={settings.split}: what is protected is a patient, whose images "
            "must stay in one split. Use split=groups"
        )
    if settings.precision == "bfloat16":
        raise ValueError(
            f"{refused} precision=bfloat16: the gradient of each patient is clipped "
            "in float32. Use precision=auto or precision=float32"
        )
    if "qfedavg" in settings.arms:
        raise ValueError(
            f"{refused} qfedavg, which needs the sites' training losses: these are "
            "not protected, so no site sends them. Use fedavg or fedprox"
        )
    tuned = [arm for arm in settings.arms if is_tuned(arm)]
    if tuned:
        raise ValueError(
            f"{refused} {', '.join(tuned)}: fine-tuning would use the same patients "
            "again, beyond the budget. Remove it from arms"
        )


def _check_unit(settings: _Settings) -> None:
    """Refuse to protect whole sites: the noise would hide what they learn, at every number of sites that is usual."""
    if settings.dp_unit == "patient":
        return
    sites, epsilon = len(settings.sites) or DEFAULT_SITES, settings.dp_epsilon or EXAMPLE
    noise = site_noise(epsilon, settings.dp_delta, settings.rounds)
    raise ValueError(
        f"dp-unit=site is refused: with {sites} sites, the noise that hides one of them in every round "
        f"(epsilon {epsilon:g}) is {noise / sites:,.0f} times as long as the longest update that is allowed, and as "
        f"long as it with {noise:,.0f} sites. Use dp-unit=patient"
    )


def site_noise(epsilon: float, delta: float, rounds: int) -> float:
    """Length of the noise on the sum of the sites' updates, in units of the longest update that one site can send.

    Every site takes part in every round, so nothing is gained by drawing. Zero-concentrated differential privacy (Bun
    and Steinke, 2016): rho = rounds / (2 sigma^2) and epsilon = rho + 2 sqrt(rho log(1 / delta)). Noise of standard
    deviation sigma in each of d values is sigma sqrt(d) long.
    """
    root = math.log(1 / delta)
    rho = (math.sqrt(root + epsilon) - math.sqrt(root)) ** 2
    return math.sqrt(rounds / (2 * rho)) * math.sqrt(VALUES)
