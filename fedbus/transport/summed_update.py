"""What the sites add up in a training round under secure aggregation, and the shared model from the sums.

The arrays of the model are summed as differences from the model that was sent, in fixed point of 32 bits with a range
for each array. BatchNorm's running statistics are summed themselves, with the numbers of 64 bits: a difference could
make a variance negative, and statistics change by more than weights. For pooled statistics the sites add n, n mean and
n (variance + mean^2), from which the variance of all activations follows. Importable without pydantic.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from fedbus.evaluation.validation import Score
from fedbus.models.batch_norm import MEAN, VARIANCE, still_names
from fedbus.models.state import State
from fedbus.secure_aggregation.fixed_point import decode_mean, encode_update, tensor_ranges
from fedbus.secure_aggregation.numbers import SHARE_BITS, NumberFormat, decode_numbers, encode_numbers
from fedbus.training.federation import add_steps
from fedbus.transport.packing import Layout, number_of_values
from fedbus.transport.summed_score import LOSS_BITS, SCORE, Numbers, impossible_sum, numbers_of_score

STATISTIC_BITS = 32
"""Binary places of a running statistic: up to 65536, in steps of 2e-10."""

ROUNDING = 1e-5
"""What rounding may leave of a variance of 0 at a mean of 0, for a thousand sites; it grows with the squared mean."""

SHARE, TRAIN_LOSS, STEPS = "share", "train-loss", "steps"

TRAINED = (
    NumberFormat(SHARE, 1, SHARE_BITS),
    NumberFormat(TRAIN_LOSS, 1, LOSS_BITS),
    NumberFormat(STEPS, 1, 0),
)
"""What a site adds about its training; its loss is multiplied by its share."""

Sum = tuple[NDArray[np.uint32], NDArray[np.uint64]]
"""The two vectors of a site, or their sums over sites."""


@dataclass(frozen=True)
class SumFormat:
    """What one session sums.

    Attributes:
        tensors: The shapes of the arrays that are summed as differences, by name.
        numbers: The numbers.
    """

    tensors: Layout
    numbers: tuple[NumberFormat, ...]

    @property
    def size(self) -> tuple[int, int]:
        """The lengths of the two vectors."""
        return number_of_values(self.tensors), sum(entry.size for entry in self.numbers)


@dataclass(frozen=True)
class Trained:
    """What a site has trained in a round, or what is read from the sum over sites.

    Attributes:
        state: The update of the site; or the mean of the updates.
        score: The score of the model that was sent.
        loss: The mean training loss.
        steps: The number of optimiser steps.
    """

    state: State
    score: Score
    loss: float
    steps: int


@dataclass(frozen=True)
class UpdateSum:
    """Encodes the updates of one round, and decodes their sum.

    Attributes:
        before: The model that was sent, as the sites received it.
        batch_norm: The setting `batch-norm`.
        update_range: The setting `update-range`.
    """

    before: State
    batch_norm: str
    update_range: float

    @property
    def format(self) -> SumFormat:
        """What is summed: everything but the arrays that no round changes under the policy."""
        still = set(still_names(self.batch_norm, self.before))
        shapes = {name: tuple(self.before[name].shape) for name in sorted(self.before.keys() - still)}
        statistics = [name for name in shapes if name.endswith((MEAN, VARIANCE))]
        entries = [NumberFormat(name, self.before[name].numel(), STATISTIC_BITS) for name in statistics]
        tensors = {name: shape for name, shape in shapes.items() if name not in set(statistics)}
        return SumFormat(tensors, (*SCORE, *TRAINED, *entries))

    def numbers(self, site: Trained, share: float) -> dict[str, ArrayLike]:
        """Return the numbers that a site adds.

        Args:
            site: What it has trained.
            share: Its share in the mean, above 0 and at most 1.
        """
        own = {SHARE: share, TRAIN_LOSS: share * site.loss, STEPS: site.steps}
        return numbers_of_score(site.score) | own | self._statistics(site.state, share)

    def encode(self, site: Trained, share: float, numbers: Numbers) -> Sum:
        """Encode what a site adds.

        Args:
            site: What it has trained.
            share: As in `numbers`.
            numbers: What `numbers` returned.

        Raises:
            RunError: If a value is out of range; it names the array.
        """
        wanted = self.format
        base = _as_arrays(self.before, wanted.tensors)
        values = encode_update(
            _as_arrays(site.state, wanted.tensors), base, tensor_ranges(base, self.update_range), share
        )
        return values, encode_numbers(numbers, wanted.numbers)

    def decode(self, total: Sum, sites: int, batches: str) -> tuple[Trained, Mapping[str, NDArray[Any]]]:
        """Read the sum over sites.

        Args:
            total: The sums of what `encode` returned at each site.
            sites: How many sites were added.
            batches: The setting `batches`.

        Returns:
            The mean of the updates with the sums of the numbers, and the decoded numbers.

        Raises:
            RunError: If the sums are impossible.
        """
        wanted = self.format
        numbers = decode_numbers(total[1], wanted.numbers)
        share = float(numbers[SHARE][0])
        if not 0 < share <= 1 + sites * 2.0**-SHARE_BITS:
            raise impossible_sum(f"The shares of {sites} sites add up to {share:g}")
        base = _as_arrays(self.before, wanted.tensors)
        mean = decode_mean(total[0], base, tensor_ranges(base, self.update_range), share)
        state = self.before | {name: torch.from_numpy(value) for name, value in mean.items()}
        state |= self._mean_statistics({key: value / share for key, value in numbers.items()})
        confusion = numbers["confusion"].reshape(3, 3)
        loss = float(numbers[TRAIN_LOSS][0]) / share
        steps = int(numbers[STEPS][0])
        if steps < sites:
            raise impossible_sum(f"{sites} sites have taken {steps} steps")
        # Under `proportional` every site takes the same number of steps.
        counted = add_steps([steps // sites] * sites, batches) if batches == "proportional" else steps
        return Trained(state, Score(confusion, numbers["loss-sums"]), loss, counted), numbers

    def _statistics(self, state: State, share: float) -> dict[str, ArrayLike]:
        """Return what a site adds for BatchNorm: mean and variance, or the first two moments if they are pooled."""
        found: dict[str, ArrayLike] = {}
        for entry in self.format.numbers:
            if entry.key.endswith((MEAN, VARIANCE)):
                value = state[entry.key].double()
                if entry.key.endswith(VARIANCE) and self.batch_norm == "pooled":
                    value = value + state[_mean_of(entry.key)].double().square()
                found[entry.key] = (share * value).numpy()
        return found

    def _mean_statistics(self, means: Mapping[str, NDArray[Any]]) -> State:
        """Return the statistics of the shared model from the means of what the sites added.

        Raises:
            RunError: If a variance is negative.
        """
        found: State = {}
        for key, value in means.items():
            if key.endswith(MEAN):
                found[key] = torch.from_numpy(value)
            elif key.endswith(VARIANCE):
                square = means[_mean_of(key)] ** 2 if self.batch_norm == "pooled" else np.zeros_like(value)
                if (value - square < -ROUNDING * (1 + square)).any():
                    raise impossible_sum(f"The mean of {key} is negative")
                found[key] = torch.from_numpy(np.maximum(value - square, 0.0))
        return {key: value.float().reshape(self.before[key].shape) for key, value in found.items()}


def add(parts: Sequence[Sum]) -> Sum:
    """Add the vectors of sites without masks, modulo 2^32 and 2^64."""
    values, numbers = (np.sum(vectors, axis=0, dtype=vectors[0].dtype) for vectors in zip(*parts, strict=True))
    return values, numbers


def _as_arrays(state: State, layout: Layout) -> dict[str, NDArray[np.float32]]:
    return {name: state[name].numpy() for name in layout}


def _mean_of(variance: str) -> str:
    return variance.removesuffix(VARIANCE) + MEAN
