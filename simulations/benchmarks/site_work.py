"""What a site does in a round, the same in our federation, in the bare loop and on every peer that can run our code."""

import time
from collections.abc import Mapping

import torch
from torch import nn

from fedbus.device import pick_device
from fedbus.evaluation.validation import Score, score_split
from fedbus.models.build import place_model
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import site_rows


class SiteWork:
    """The rounds of some sites in one process.

    Args:
        settings: The settings.
        sites: The sites by name.

    Attributes:
        device: The device that trains.
        rows: Each site's balanced training rows, sorted by name.
        taken: Optimiser steps taken so far.
        stepping: Seconds spent in them.
    """

    def __init__(self, settings: Settings, sites: Mapping[str, Site]) -> None:
        self.device = pick_device(settings.device)
        self.rows = {
            name: site_rows(site, settings, settings.seeds[0], self.device) for name, site in sorted(sites.items())
        }
        self.taken, self.stepping = 0, 0.0
        self._settings, self._sites = settings, sites

    def make_model(self) -> nn.Module:
        """Build a model on the device in our memory format."""
        return place_model(self._settings.model, self.device)

    def weight(self, name: str) -> float:
        """Return the weight of a site in the average."""
        return float(self.rows[name].distinct)

    def steps(self, name: str) -> int:
        """Return the optimiser steps of a site in every round."""
        return self.rows[name].steps_per_round(self._settings)

    def train(self, model: nn.Module, name: str, round_number: int) -> Score:
        """Score the shared weights on a site's validation rows, then train them for one round, in place.

        Args:
            model: A model of `make_model` with the shared weights.
            name: Name of the site.
            round_number: Number of the round, from 1.

        Returns:
            The score of the shared weights.
        """
        settings = self._settings
        score = score_split(model, self._sites[name], "validation", settings)
        started = time.monotonic()
        train_round(
            model, self.rows[name], settings, seed=settings.seeds[0], round_number=round_number,
            steps=self.steps(name), optimiser=make_optimiser(model, settings),
        )  # fmt: skip
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.taken += self.steps(name)
        self.stepping += time.monotonic() - started
        return score
