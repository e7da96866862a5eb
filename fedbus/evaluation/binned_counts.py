"""Images counted by their calibrated probability of malignant, in bins of one percent.

Counts add up over sites, so that a federation chooses a threshold and draws a decision curve without the prediction on
any image. The edges are the whole percents: a finer threshold would not be more certain, because a hundred malignant
validation images determine sensitivity to about two points.
"""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from fedbus.classes import CLASSES
from fedbus.evaluation.metrics import FloatArray

BINS = 100

EDGES: FloatArray = np.arange(BINS) / BINS
"""The lower edge of each bin; an image is above a threshold if its probability is at least the threshold."""

MALIGNANT = CLASSES.index("malignant")

Counts = Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=BINS, max_length=BINS)]


class BinnedCounts(BaseModel):
    """Images by calibrated probability of malignant.

    Attributes:
        malignant: The malignant images in each bin.
        others: All other images in each bin.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    malignant: Counts
    others: Counts

    @property
    def rows(self) -> int:
        """How many images were counted."""
        return sum(self.malignant) + sum(self.others)

    def above(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Count the malignant and the other images at or above each of `EDGES`: int64 [100] each."""
        malignant, others = (np.cumsum(counts[::-1])[::-1] for counts in (self.malignant, self.others))
        return malignant, others


def find_bins(malignant_probability: FloatArray) -> NDArray[np.int64]:
    """Return the bin of each probability, int64 [N]; 1 belongs to the last."""
    return np.searchsorted(EDGES, malignant_probability, side="right") - 1


def count_bins(labels: NDArray[np.int64], malignant_probability: FloatArray) -> BinnedCounts:
    """Count images by bin.

    Args:
        labels: int64 [N], positions in `CLASSES`.
        malignant_probability: float64 [N], calibrated.
    """
    bins, malignant = find_bins(malignant_probability), labels == MALIGNANT
    counts = [np.bincount(bins[chosen], minlength=BINS).tolist() for chosen in (malignant, ~malignant)]
    return BinnedCounts(malignant=counts[0], others=counts[1])


def add_counts(sites: Iterable[BinnedCounts]) -> BinnedCounts:
    """Add the counts of several sites."""
    found = list(sites)
    return BinnedCounts(
        malignant=tuple(np.sum([each.malignant for each in found], axis=0).tolist()),
        others=tuple(np.sum([each.others for each in found], axis=0).tolist()),
    )
