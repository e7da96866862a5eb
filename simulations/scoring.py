"""Score every arm on the test rows of every hospital, once, with the round that validation chose."""

from collections.abc import Mapping

import torch

from fedbus.device import pick_device
from fedbus.evaluation import Predictions
from fedbus.fitting import place_model
from fedbus.models import set_state
from fedbus.prediction import join, predict_part
from fedbus.sites import Site
from fedbus.study import Study
from simulations.arms import Arm


def score_arm(arm: Arm, study: Study, sites: Mapping[str, Site]) -> Predictions:
    """Predict the test rows of all sites with the arm's kept weights, or read what an earlier call wrote."""
    path = arm.folder.path / "predictions.csv"
    if not path.is_file():
        predict_test_rows(arm, study, sites).to_csv(path)
    return Predictions.from_csv(path)


def predict_test_rows(arm: Arm, study: Study, sites: Mapping[str, Site]) -> Predictions:
    """Predict the test rows of all sites with the arm's kept weights."""
    model = place_model(study.model, pick_device(study.device))
    set_state(model, arm.folder.load_weights("best"))
    classes = arm.folder.read_facts()["classes"]
    present = None if classes is None else torch.tensor(classes)
    return join([predict_part(model, site, "test", study, present) for site in sites.values()])
