"""Score each arm on the test rows of all sites, once, with the weights that `keep` chooses."""

from collections.abc import Mapping, Sequence

from fedbus.device import pick_device
from fedbus.errors import SettingsError
from fedbus.evaluation.predictions import Predictions
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.sites.split import HELD_OUT
from fedbus.training.rows import TrainingRows, federation_rows, site_rows
from simulations.arm import Arm
from simulations.blending import predict_blended
from simulations.fine_tuning import predict_fine_tuned
from simulations.prediction import predict_arm

TRAINING_FILE = "training.csv"
"""The predictions of an arm on the rows that it was trained on."""


def score_arm(arm: Arm, settings: Settings, sites: Mapping[str, Site]) -> Predictions:
    """Predict the test rows of all sites with the arm's kept weights, or read the predictions of an earlier call."""
    return _score(arm, settings, sites, "test", "predictions.csv")


def score_validation(arm: Arm, settings: Settings, sites: Mapping[str, Site]) -> Predictions:
    """Predict the validation rows of all sites with the arm's kept weights, or read the predictions of an earlier call.

    Temperature and threshold are fitted to them.
    """
    return _score(arm, settings, sites, "validation", "validation.csv")


def score_training(arm: Arm, settings: Settings, sites: Mapping[str, Site]) -> Predictions:
    """Predict the distinct training rows, unaugmented, of the sites that the arm was trained at; or read them.

    The membership audit compares them with the test rows.
    """
    return _score(arm, settings, sites, "train", TRAINING_FILE, arm.trained_at(sites))


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


def predict_rows(
    arm: Arm, settings: Settings, sites: Mapping[str, Site], split: str, names: Sequence[str] | None = None
) -> Predictions:
    """Predict one split of all sites, or of some, with the weights that `keep` chooses, see `predict_arm`."""
    device = pick_device(settings.device)

    def rows_of(name: str) -> TrainingRows:
        return site_rows(sites[name], settings, arm.seed, device, federation_rows(settings, sites, arm.seed))

    return predict_arm(arm, settings, {name: sites[name] for name in names or sites}, split, rows_of)


def _score(
    arm: Arm,
    settings: Settings,
    sites: Mapping[str, Site],
    split: str,
    file: str,
    names: Sequence[str] | None = None,
) -> Predictions:
    path = arm.folder.path / file
    if not path.is_file():
        if arm.blended:
            found = predict_blended(arm, settings, sites, lambda part: _score(part, settings, sites, split, file))
        elif arm.tuned:
            found = predict_fine_tuned(arm, settings, sites, split)
        else:
            found = predict_rows(arm, settings, sites, split, names)
        found.to_csv(path)
    return Predictions.from_csv(path)
