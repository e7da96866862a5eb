"""Apply the arms of a run to a site that took no part in it: the model that each arm hands on, and its predictions."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedbus.device import pick_device
from fedbus.errors import RunError
from fedbus.evaluation.kept import kept_round, load_kept
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions
from fedbus.models.batch_norm import MEAN, OWN_PARTS
from fedbus.models.build import place_model
from fedbus.models.state import State, mean_state, set_state
from fedbus.runs.site_state import local_batch_norm
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.system.progress import Progress
from fedbus.training.recalibration import estimate_statistics
from simulations.arm import Arm

AS_TRAINED, RECALIBRATED = "as-trained", "recalibrated"
"""Which running statistics BatchNorm uses at the new site: those of training, or those of its own unlabelled images."""

BATCH_NORMS = (AS_TRAINED, RECALIBRATED)


def handed_on_state(arm: Arm, settings: Settings, sites: Sequence[str]) -> State:
    """Return the weights of an arm that a site outside the run receives.

    Where BatchNorm stays at the sites (`batch-norm` is `local` or `local-statistics`), the shared model has no such
    arrays but those of the start weights. A new site gets the mean over the sites of the run, in which each site counts
    the same. This is a choice: FedBN and SiloBN do not define a model for further sites.

    Args:
        arm: A finished arm.
        settings: Settings of the run.
        sites: The sites of the run.

    Raises:
        RunError: If the weights, or the arrays of BatchNorm of all sites, are missing or damaged.
    """
    state = load_kept(arm.folder, settings)
    if not arm.federated or settings.batch_norm not in OWN_PARTS:
        return state
    kept_number = kept_round(settings, arm.folder.read_facts()["best_round"])
    own = [kept for site in sites if (kept := local_batch_norm(arm.out, arm.title, site, kept_number))]
    if not own and has_batch_norm(state):
        raise RunError(
            f"{arm.out} no longer contains the BatchNorm arrays that the sites kept for {arm.name}.",
            f"Restore memory/{arm.title} there, or delete {arm.folder.path} and rerun the comparison with --resume.",
        )
    return state | mean_state(own)


def has_batch_norm(state: State) -> bool:
    """Return whether a model has running statistics."""
    return any(name.endswith(MEAN) for name in state)


def predict_unseen(
    arm: Arm, settings: Settings, sites: Sequence[str], unseen: Site, progress: Progress = lambda _: None
) -> dict[str, Predictions]:
    """Predict all test rows of a new site with the weights of an arm that `keep` chooses.

    Args:
        arm: A finished arm: local, centralised or federated.
        settings: Settings of the run.
        sites: The sites of the run.
        unseen: The new site.
        progress: Called with the number of images of every batch.

    Returns:
        Predictions by `AS_TRAINED` and `RECALIBRATED`; without the latter if the model has no BatchNorm.
    """
    device = pick_device(settings.device)
    model, state = place_model(settings.model, device), handed_on_state(arm, settings, sites)
    classes = arm.folder.read_facts()["classes"]
    present = None if classes is None else torch.tensor(classes)
    set_state(model, state)
    found = {AS_TRAINED: predict_split(model, unseen, "test", settings, present, progress)}
    if has_batch_norm(state):
        images = unlabelled_images(unseen).to(device)
        estimate_statistics(model, images, torch.arange(len(images), device=device), settings)
        found[RECALIBRATED] = predict_split(model, unseen, "test", settings, present, progress)
    return found


def unlabelled_images(site: Site) -> Tensor:
    """Return the test images of a site, uint8 [N, 1, H, W], in an order that depends only on their pixels.

    File names often contain the label, and statistics depend on which images share a batch.
    """
    rows = sorted(site.splits["test"].tolist(), key=lambda row: hashlib.sha256(site.pixels[row].tobytes()).digest())
    return torch.from_numpy(np.array(site.pixels[rows])).unsqueeze(1)
