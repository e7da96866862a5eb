"""The training rows of a packed study: balanced when it was packed, because imbalanced-learn may be missing here."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from fedbus.classes import CLASSES
from fedbus.device import pick_device
from fedbus.sites.site import Site
from fedbus.training.balance import Balanced
from fedbus.training.federation import add_rows
from fedbus.training.rows import POOLED, TrainingRows, load_rows
from simulations.portable.study_file import PackedStudy


@dataclass(frozen=True)
class PackedRows:
    """The training rows of one fold and seed.

    Attributes:
        study: The packed study.
        fold: The fold.
        seed: The training seed.
    """

    study: PackedStudy
    fold: int
    seed: int

    @cached_property
    def sites(self) -> dict[str, Site]:
        """The sites by name."""
        return self.study.sites(self.fold)

    def alone(self, name: str) -> TrainingRows:
        """Return the rows of a site that trains alone, as `fedbus.training.rows.site_rows` does."""
        return self._site_rows(name, "alone", 0)

    @cached_property
    def federated(self) -> dict[str, TrainingRows]:
        """The rows of each site in the federation, as `site_rows` returns them with the sums over all sites."""
        settings, counts, balanced = self.study.settings(self.fold), [], []
        for name, site in self.sites.items():
            counts.append(np.bincount(site.labels[site.splits["train"]], minlength=len(CLASSES)).tolist())
            balanced.append(len(self._packed(f"{name}/fold-{self.fold}/seed-{self.seed}/alone")))
        total = add_rows(counts, balanced, settings.balance).balanced
        shared = total if settings.batches == "proportional" else 0
        return {name: self._site_rows(name, "federated", shared) for name in self.sites}

    def pooled(self) -> TrainingRows:
        """Return the rows of all sites together, as `fedbus.training.rows.pooled_rows` does."""
        sites = self.sites.values()
        pixels = np.concatenate([site.pixels[site.splits["train"]] for site in sites])
        labels = np.concatenate([site.labels[site.splits["train"]] for site in sites])
        balanced = _balanced(pixels, labels, self._packed(f"{POOLED}/fold-{self.fold}/seed-{self.seed}"))
        return load_rows(POOLED, pixels, balanced, len(labels), self._device)

    def _site_rows(self, name: str, kind: str, shared: int) -> TrainingRows:
        site, rows = self.sites[name], self._packed(f"{name}/fold-{self.fold}/seed-{self.seed}/{kind}")
        balanced = _balanced(site.pixels, site.labels, rows)
        return load_rows(name, site.pixels, balanced, len(site.splits["train"]), self._device, shared)

    def _packed(self, key: str) -> NDArray[np.int64]:
        return self.study.tensors[key].astype(np.int64)

    @property
    def _device(self) -> torch.device:
        return pick_device(self.study.settings(self.fold).device)


def _balanced(pixels: NDArray[np.uint8], labels: NDArray[np.int64], rows: NDArray[np.int64]) -> Balanced:
    """Describe rows that were balanced by choosing among them: no image is synthetic, no class is weighted."""
    return Balanced(rows, labels[rows], pixels[:0], np.ones(len(CLASSES), dtype=np.float32))
