"""Predict the rows of every site with the weights of a trained arm that `keep` chooses."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch

from fedbus.device import pick_device
from fedbus.evaluation.kept import kept_round, load_kept
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions, join
from fedbus.models.build import place_model
from fedbus.models.state import set_state
from fedbus.runs.site_state import own_model
from fedbus.sites.site import Site
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import TrainingRows
from simulations.arm import Arm

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack


def predict_arm(
    arm: Arm,
    settings: "Settings",
    sites: Mapping[str, Site],
    split: str,
    rows_of: Callable[[str], TrainingRows],
) -> Predictions:
    """Predict one split of all sites, at each site with its own BatchNorm state.

    A site has its own state if it kept one in training, or if `recalibrate` is on.

    Args:
        arm: A trained arm, neither fine-tuned nor blended.
        settings: Settings of the comparison.
        sites: The sites by name.
        split: The split.
        rows_of: Returns the rows that a site trains on in the federation; called only if `recalibrate` is on.
    """
    model = place_model(settings.model, pick_device(settings.device))
    state, facts = load_kept(arm.folder, settings), arm.folder.read_facts()
    present = None if facts["classes"] is None else torch.tensor(facts["classes"])
    kept = kept_round(settings, facts["best_round"])
    predictions = []
    for name, site in sites.items():
        own = own_model(state, settings.batch_norm, arm.out, arm.title, name, kept) if arm.federated else state
        set_state(model, own)
        if settings.recalibrate:
            recalibrate(model, rows_of(name), settings)
        predictions.append(predict_split(model, site, split, settings, present))
    return join(predictions)
