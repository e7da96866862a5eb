"""Apply the model of a folder: with the arrays of one of its sites, the shared ones, or statistics of new images.

A model whose sites keep BatchNorm for themselves (FedBN, SiloBN) is incomplete without a site's arrays. Elsewhere it
gets the mean over the sites of their arrays, each site counting the same, and running statistics that are estimated
from the new images without their labels. This is a choice: FedBN and SiloBN do not define a model for further sites.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedbus.classes import CLASSES
from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.evaluation.predict import predict
from fedbus.model_folder.read import ModelFolder
from fedbus.models.build import place_model
from fedbus.models.state import State, mean_state, set_state
from fedbus.settings.schema import Settings
from fedbus.system.progress import Progress
from fedbus.training.recalibration import estimate_statistics

LEAST_TO_ADAPT = 32
"""Images that statistics are estimated from, at least: those of fewer vary too much from one folder to the next."""

Arrays = Literal["shared", "own", "adapted"]
"""Whose arrays a model has: all shared, one site's own, or the sites' mean with statistics of the new images."""


@dataclass(frozen=True, eq=False)
class AppliedModel:
    """A model that is ready to predict.

    Attributes:
        folder: Its folder.
        module: The timm classifier, on its device, in evaluation mode.
        settings: What reading images and predicting need.
        arrays: Whose arrays it has.
    """

    folder: ModelFolder
    module: nn.Module
    settings: Settings
    arrays: Arrays

    def predict(self, images: NDArray[np.uint8], progress: Progress = lambda _: None) -> NDArray[np.float64]:
        """Compute the class probabilities of images, before calibration.

        Args:
            images: uint8 [N, H, W], of the model's image size.
            progress: Called with the number of images of every batch.

        Returns:
            float64 [N, 3], in the order of `CLASSES`; rows sum to 1.
        """
        present = torch.tensor([CLASSES.index(name) for name in self.folder.facts.predicts])
        return predict(self.module, images, self.settings, present, progress)


def open_model(
    folder: ModelFolder,
    site: str | None = None,
    images: NDArray[np.uint8] | None = None,
    device: str = "auto",
) -> AppliedModel:
    """Build the model of a folder with its weights.

    Args:
        folder: The model folder.
        site: A site that took part in the training, whose own arrays are used if it has any; None: the model for
            everywhere else.
        images: uint8 [N, H, W], unlabelled images of the place where the model is applied; needed only if the model is
            incomplete without a site.
        device: As the setting.

    Raises:
        RunError: If the site is not known; if the model needs a site, or at least `LEAST_TO_ADAPT` images, and got
            neither; or if a file is damaged.
        WeightsError: If the arrays do not fit the architecture.
    """
    facts, settings = folder.facts, folder.facts.to_settings(device)
    arrays = which_arrays(folder, site)
    found = _enough_images(folder, images) if arrays == "adapted" else None
    module = place_model(facts.architecture, pick_device(device))
    if site is not None:
        set_state(module, _state_of_site(folder, site))
    elif found is None:
        assert facts.weights is not None, "a complete model has shared weights"
        set_state(module, folder.load(facts.weights))
    else:
        set_state(module, state_for_elsewhere(folder))
        adapt_statistics(module, found, settings)
    return AppliedModel(folder, module.eval(), settings, arrays)


def adapt_statistics(module: nn.Module, images: NDArray[np.uint8], settings: Settings) -> None:
    """Replace the running statistics of a model, in place, by those of the images of a place, without their labels.

    Args:
        module: A model on its device.
        images: uint8 [N, H, W], at least `LEAST_TO_ADAPT`; their order does not matter.
        settings: The precision is used.
    """
    unlabelled = torch.from_numpy(np.array(images)).unsqueeze(1).to(next(module.parameters()).device)
    estimate_statistics(module, unlabelled, torch.tensor(_order_by_content(images)).to(unlabelled.device), settings)


def which_arrays(folder: ModelFolder, site: str | None) -> Arrays:
    """Return whose arrays `open_model` uses, without reading them.

    Raises:
        RunError: If the site is not known or its arrays are elsewhere, or each site has a model of its own and none is
            named.
    """
    facts = folder.facts
    if site is None:
        if facts.weights is None:
            raise RunError(
                f"{folder.path} has a model of each of its sites, none for others.",
                f"Choose one of the sites (--as SITE): {', '.join(facts.sites)}.",
            )
        return "shared" if facts.complete else "adapted"
    if site not in facts.sites:
        raise RunError(
            f"{folder.path} was not trained at a site called {site!r}.",
            f"Choose from {', '.join(facts.sites)}, or leave the site out.",
        )
    if facts.sites[site].own is not None:
        return "own"
    if not facts.complete:
        raise RunError(
            f"{folder.path} does not contain the BatchNorm arrays of {site}, which never leave it.",
            "Use the model folder that the site received, or leave the site out.",
        )
    return "shared"


def _state_of_site(folder: ModelFolder, site: str) -> State:
    """Return the whole model of a site."""
    facts = folder.facts
    own, shared = facts.sites[site].own, facts.weights
    return (folder.load(shared) if shared else {}) | (folder.load(own) if own else {})


def state_for_elsewhere(folder: ModelFolder) -> State:
    """Return the shared arrays of a model that has some, with the mean of those that the sites keep.

    A hub has no arrays of its sites: its model is completed by those that all sites started from.

    Raises:
        RunError: If a file is damaged.
    """
    own = [folder.load(site.own) for site in folder.facts.sites.values() if site.own]
    assert folder.facts.weights is not None, "see which_arrays"
    return folder.load(folder.facts.weights) | mean_state(own)


def _enough_images(folder: ModelFolder, images: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """Return the images to estimate statistics from.

    Raises:
        RunError: If there are too few.
    """
    sites = ", ".join(folder.facts.sites)
    if images is None or len(images) < LEAST_TO_ADAPT:
        raise RunError(
            f"{folder.path} has BatchNorm statistics only for its sites ({sites}); elsewhere they are estimated from "
            f"at least {LEAST_TO_ADAPT} images, not {0 if images is None else len(images)}.",
            "Give more images at once, name the site whose statistics fit, or use a model with shared BatchNorm.",
        )
    return images


def _order_by_content(images: NDArray[np.uint8]) -> Sequence[int]:
    """Order images by their pixels: file names often contain the label, and statistics depend on who shares a batch."""
    return sorted(range(len(images)), key=lambda row: hashlib.sha256(images[row].tobytes()).digest())
