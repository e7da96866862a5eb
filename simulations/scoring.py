"""Score each arm on the test rows of all sites, once, with the weights that `keep` chooses."""

from collections.abc import Mapping

import torch

from fedbus.device import pick_device
from fedbus.errors import SettingsError
from fedbus.evaluation.kept import kept_round, load_kept
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions, join
from fedbus.models.build import place_model
from fedbus.models.state import set_state
from fedbus.runs.site_state import own_model
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.sites.split import HELD_OUT
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import federation_rows, site_rows
from simulations.arm import Arm
from simulations.blending import predict_blended
from simulations.fine_tuning import predict_fine_tuned


def score_arm(arm: Arm, settings: Settings, sites: Mapping[str, Site]) -> Predictions:
    """Predict the test rows of all sites with the arm's kept weights, or read the predictions of an earlier call."""
    return _score(arm, settings, sites, "test", "predictions.csv")


def score_held_out(arm: Arm, settings: Settings, sites: Mapping[str, Site]) -> Predictions:
    """Predict the held-out rows of all sites with the arm's kept weights, or read the predictions of an earlier call.

    Raises:
        SettingsError: If a site has none, because its split does not leak.
    """
    without = [name for name, site in sites.items() if HELD_OUT not in site.splits]
    if without:
        raise SettingsError(
            f"split = {settings.split} holds out no rows at {', '.join(without)}.",
            "Use --set split=images or --set split=balanced-images; split = groups has only test rows.",
        )
    return _score(arm, settings, sites, HELD_OUT, "held-out.csv")


def predict_rows(arm: Arm, settings: Settings, sites: Mapping[str, Site], split: str) -> Predictions:
    """Predict one split of all sites with the weights that `keep` chooses, at each site with its own BatchNorm state.

    A site has its own state if it kept one in training, or if `recalibrate` is on.
    """
    device = pick_device(settings.device)
    model = place_model(settings.model, device)
    state, facts = load_kept(arm.folder, settings), arm.folder.read_facts()
    present = None if facts["classes"] is None else torch.tensor(facts["classes"])
    kept = kept_round(settings, facts["best_round"])
    federation = federation_rows(settings, sites, arm.seed)
    predictions = []
    for name, site in sites.items():
        own = own_model(state, settings.batch_norm, arm.out, arm.title, name, kept) if arm.federated else state
        set_state(model, own)
        if settings.recalibrate:
            recalibrate(model, site_rows(site, settings, arm.seed, device, federation), settings)
        predictions.append(predict_split(model, site, split, settings, present))
    return join(predictions)


def _score(arm: Arm, settings: Settings, sites: Mapping[str, Site], split: str, file: str) -> Predictions:
    path = arm.folder.path / file
    if not path.is_file():
        if arm.blended:
            found = predict_blended(arm, settings, sites, lambda part: _score(part, settings, sites, split, file))
        else:
            predict = predict_fine_tuned if arm.tuned else predict_rows
            found = predict(arm, settings, sites, split)
        found.to_csv(path)
    return Predictions.from_csv(path)
