"""Balanced training rows of one site or of all sites pooled, on the device."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedbus.seeds import derive_seed
from fedbus.training.balance import Balanced, balance

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains need not have
    from fedbus.sites.site import Site


@dataclass(frozen=True)
class TrainingRows:
    """One holder's balanced training rows, on the device.

    Attributes:
        owner: the site's name, or `pooled`.
        images: uint8 [U, 1, H, W]; on a GPU the distinct pictures of the rows and the synthetic ones, on a processor
            the holder's whole array if nothing is synthetic. Never written to: it may be a read-only memory map.
        index: int64 [M] into `images`: the balanced rows, one entry a repetition.
        labels: int64 [M].
        class_weights: float32 [3] of the loss.
        present: int64 [K], the classes that this holder has.
        distinct: training images before balancing.
    """

    owner: str
    images: Tensor
    index: Tensor
    labels: Tensor
    class_weights: Tensor
    present: Tensor
    distinct: int

    def steps_per_round(self, settings: "Settings") -> int:
        """Optimiser steps that a round makes on these rows."""
        if settings.steps_per_round:
            return settings.steps_per_round
        return max(1, round(settings.local_epochs * -(-len(self.index) // settings.batch_size)))


def load_rows(
    owner: str, pixels: NDArray[np.uint8], balanced: Balanced, distinct: int, device: torch.device
) -> TrainingRows:
    """Put the balanced rows of one holder on the device, each distinct picture once.

    A processor reads them where they are: workers of one machine share the pages of a memory map, and take no memory
    of their own. Only synthetic pictures, which no file holds, make a copy necessary.

    Args:
        owner: the site's name, or `pooled`.
        pixels: uint8 [N, H, W], memory-mapped.
        balanced: rows of `pixels` and synthetic pictures.
        distinct: training images before balancing.
        device: where training runs.
    """
    images, index = pixels, balanced.rows
    if device.type != "cpu" or len(balanced.synthetic):
        unique, place = np.unique(balanced.rows, return_inverse=True)
        images = np.concatenate([pixels[unique], balanced.synthetic])
        index = np.concatenate([place, len(unique) + np.arange(len(balanced.synthetic))])
    return TrainingRows(
        owner=owner,
        images=_without_copy(images).unsqueeze(1).to(device),
        index=torch.from_numpy(index).to(device),
        labels=torch.from_numpy(balanced.labels).to(device),
        class_weights=torch.from_numpy(balanced.class_weights).to(device),
        present=torch.from_numpy(np.unique(balanced.labels)).to(device),
        distinct=distinct,
    )


def _without_copy(images: NDArray[np.uint8]) -> Tensor:
    """A tensor over an array's own memory, also where that is read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)


POOLED = "pooled"


def site_rows(site: "Site", settings: "Settings", seed: int, device: torch.device) -> TrainingRows:
    """Balance a hospital's training rows and put them on the device."""
    train = site.splits["train"]
    balanced = balance(site.pixels, site.labels, train, settings.sampler, derive_seed(seed, "balance", site.name))
    return load_rows(site.name, site.pixels, balanced, len(np.unique(train)), device)


def pooled_rows(sites: Sequence["Site"], settings: "Settings", seed: int, device: torch.device) -> TrainingRows:
    """Pool the training rows of all hospitals, then balance them as one hospital's."""
    pixels = np.concatenate([site.pixels[site.splits["train"]] for site in sites])
    labels = np.concatenate([site.labels[site.splits["train"]] for site in sites])
    everything = np.arange(len(labels))
    balanced = balance(pixels, labels, everything, settings.sampler, derive_seed(seed, "balance", POOLED))
    distinct = sum(len(np.unique(site.splits["train"])) for site in sites)  # rows repeat where they were over-sampled
    return load_rows(POOLED, pixels, balanced, distinct, device)
