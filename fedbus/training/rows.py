"""Balanced training rows, of one site or of all sites pooled, on the device that trains."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedbus.classes import CLASSES
from fedbus.seeds import derive_seed
from fedbus.training.balance import Balanced, balance
from fedbus.training.federation import FederationRows, add_rows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack
    from fedbus.sites.site import Site

POOLED = "pooled"
"""Owner of the rows of all sites together. No site can have this name."""

LEAST_BATCH = 4
"""Images in the smallest share of a batch: BatchNorm's statistics of fewer are mostly noise."""


@dataclass(frozen=True)
class TrainingRows:
    """The balanced training rows of one owner.

    Attributes:
        owner: Name of the site, or `POOLED`. Seeds of row order and augmentation are derived from it, so that sites
            draw independently.
        images: uint8 [U, 1, H, W]. On a GPU, the distinct images of the rows, then the synthetic ones. On the CPU, the
            site's whole array if no image is synthetic. Never written to: it may be a read-only memory map.
        index: int64 [M], positions in `images`: one per balanced row, repeated where over-sampled.
        labels: int64 [M], positions in `CLASSES`.
        class_weights: float32 [3], weights of the loss.
        present: int64 [K], the classes that the rows contain, ascending.
        distinct: Number of distinct training images before balancing.
        shared_rows: Balanced rows of the federation, of which this owner takes its share of every batch; 0: its batches
            are its own.
        groups: int64 [M], on the CPU: the group (a patient's images) of each balanced row, numbered from 0. None where
            it is not known.
    """

    owner: str
    images: Tensor
    index: Tensor
    labels: Tensor
    class_weights: Tensor
    present: Tensor
    distinct: int
    shared_rows: int = 0
    groups: Tensor | None = None

    def steps_per_round(self, settings: "Settings") -> int:
        """Number of optimiser steps per round: as set, or those of `local-epochs` passes, at least 1.

        With shared batches, the passes are over the rows of the federation, so that all sites take the same number.
        """
        if settings.steps_per_round:
            return settings.steps_per_round
        batches = -(-(self.shared_rows or len(self.index)) // settings.batch_size)  # rounded up
        return max(1, round(settings.local_epochs * batches))

    def batch_size(self, settings: "Settings") -> int:
        """Number of images per optimiser step: `batch-size`, or the owner's share of it if batches are shared."""
        if not self.shared_rows:
            return settings.batch_size
        return max(LEAST_BATCH, round(settings.batch_size * len(self.index) / self.shared_rows))

    def weight(self, settings: "Settings") -> float:
        """Return the weight of this owner in the average: by `site-weights`, or its share of every batch."""
        if self.shared_rows:
            return float(len(self.index))
        return {"distinct": float(self.distinct), "balanced": float(len(self.index)), "equal": 1.0}[
            settings.site_weights
        ]


def site_rows(
    site: "Site", settings: "Settings", seed: int, device: torch.device, federation: FederationRows | None = None
) -> TrainingRows:
    """Balance the training rows of a site and put them on the device.

    Args:
        site: The site.
        settings: Settings of the comparison.
        seed: The training seed.
        device: Device that trains.
        federation: The sums over all sites, which `balance=federation` and `batches=proportional` need. None: the site
            trains alone, balances its own classes and takes whole batches.

    Raises:
        SettingsError: If the sampler fails on these rows, see `balance`.
    """
    train = site.splits["train"]
    targets = None
    if federation and settings.balance == "federation":
        targets = federation.targets(np.bincount(site.labels[train], minlength=len(CLASSES)).tolist())
    drawn = derive_seed(seed, "balance", site.name)
    balanced = balance(site.pixels, site.labels, train, settings.sampler, drawn, targets)
    shared = federation.balanced if federation and settings.batches == "proportional" else 0
    return load_rows(site.name, site.pixels, balanced, len(np.unique(train)), device, shared, site.groups)


def federation_rows(settings: "Settings", sites: Mapping[str, "Site"], seed: int) -> FederationRows | None:
    """Add up what the sites have: see `fedbus.training.federation`. None if no setting needs the sums."""
    if settings.balance == "site" and settings.batches == "equal":
        return None  # balancing every site once more would take minutes with an interpolating sampler
    counts, balanced = [], []
    for site in sites.values():
        train = site.splits["train"]
        counts.append(np.bincount(site.labels[train], minlength=len(CLASSES)).tolist())
        balanced.append(len(site_rows(site, settings, seed, torch.device("cpu")).index))
    return add_rows(counts, balanced, settings.balance)


def pooled_rows(sites: Sequence["Site"], settings: "Settings", seed: int, device: torch.device) -> TrainingRows:
    """Pool the training rows of all sites, then balance them together, as if they were one site's.

    Raises:
        SettingsError: If the sampler fails on these rows, see `balance`.
    """
    pixels = np.concatenate([site.pixels[site.splits["train"]] for site in sites])
    labels = np.concatenate([site.labels[site.splits["train"]] for site in sites])
    # Groups of different sites are different, whatever their names.
    groups = np.concatenate([np.char.add(f"{site.name}/", site.groups[site.splits["train"]]) for site in sites])
    everything = np.arange(len(labels))
    balanced = balance(pixels, labels, everything, settings.sampler, derive_seed(seed, "balance", POOLED))
    # A split that was over-sampled before splitting repeats rows.
    distinct = sum(len(np.unique(site.splits["train"])) for site in sites)
    return load_rows(POOLED, pixels, balanced, distinct, device, groups=groups)


def load_rows(
    owner: str,
    pixels: NDArray[np.uint8],
    balanced: Balanced,
    distinct: int,
    device: torch.device,
    shared_rows: int = 0,
    groups: NDArray[np.str_] | None = None,
) -> TrainingRows:
    """Put balanced rows on the device, each distinct image once.

    On the CPU the pixel array itself is used: processes of one machine then share the pages of a memory map. Only
    synthetic images, which are in no file, require a copy.

    Args:
        owner: Name of the site, or `POOLED`.
        pixels: uint8 [N, H, W], memory-mapped.
        balanced: Rows of `pixels`, and synthetic images.
        distinct: Number of distinct training images before balancing.
        device: Device that trains.
        shared_rows: As in `TrainingRows`.
        groups: Name of the group of each row of `pixels`; None if not known.
    """
    images, index = pixels, balanced.rows
    if device.type != "cpu" or len(balanced.synthetic):
        unique, place = np.unique(balanced.rows, return_inverse=True)
        images = np.concatenate([pixels[unique], balanced.synthetic])
        index = np.concatenate([place, len(unique) + np.arange(len(balanced.synthetic))])
    return TrainingRows(
        owner=owner,
        images=_as_tensor(images).unsqueeze(1).to(device),
        index=torch.from_numpy(index).to(device),
        labels=torch.from_numpy(balanced.labels).to(device),
        class_weights=torch.from_numpy(balanced.class_weights).to(device),
        present=torch.from_numpy(np.unique(balanced.labels)).to(device),
        distinct=distinct,
        shared_rows=shared_rows,
        groups=None if groups is None or len(balanced.synthetic) else _numbered(groups[balanced.rows]),
    )


def _numbered(names: NDArray[np.str_]) -> Tensor:
    """Number names from 0 in alphabetical order; equal names get the same number."""
    return torch.from_numpy(np.unique(names, return_inverse=True)[1].astype(np.int64))


def _as_tensor(images: NDArray[np.uint8]) -> Tensor:
    """Make a tensor that shares an array's memory, even if that memory is read-only."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        return torch.from_numpy(images)
