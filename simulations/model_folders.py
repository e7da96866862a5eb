"""Make the folder of every trained arm a model folder, which can be applied and handed on without the run."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from fedbus.classes import class_counts
from fedbus.device import pick_device
from fedbus.evaluation.kept import FILES, kept_round, load_kept
from fedbus.model_folder.facts import ModelFacts, Part, SiteFacts
from fedbus.model_folder.read import ModelFolder
from fedbus.model_folder.seen import Seen, seen_at
from fedbus.model_folder.write import SEEN_FILE, part_of, save_part, write_model
from fedbus.models.build import place_model
from fedbus.models.state import State, get_state, set_state
from fedbus.runs.folder import run_id
from fedbus.runs.site_state import own_arrays
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.training.recalibration import recalibrate
from fedbus.training.rows import federation_rows, site_rows
from simulations.arm import Arm, list_arms
from simulations.calibration import calibrate_arm
from simulations.feature_test import fit_feature_test


def write_model_folders(settings: Settings, out: Path, sites: Mapping[str, Site], *, phantoms: bool) -> None:
    """Write the `model.json` of every finished arm that has a model; blended arms only combine those of others.

    Args:
        settings: Settings of the run.
        out: The run folder.
        sites: The prepared sites, by name.
        phantoms: Whether the images are synthetic.

    Raises:
        RunError: If weights are missing or damaged, or the disk is full.
    """
    for arm in list_arms(settings, out):
        if not arm.blended and arm.has_weights:
            facts = _facts(arm, settings, sites, phantoms=phantoms)
            trained_at = {name: sites[name] for name in facts.sites}
            features = fit_feature_test(ModelFolder(arm.folder.path, facts), trained_at, settings.device)
            write_model(arm.folder.path, facts.model_copy(update={"features": features}))


def _facts(arm: Arm, settings: Settings, sites: Mapping[str, Site], *, phantoms: bool) -> ModelFacts:
    names, done = arm.trained_at(sites), arm.folder.read_facts()
    own = {name: _own_part(arm, settings, sites, name) for name in names}
    return ModelFacts.from_settings(
        settings,
        arm=arm.name,
        seed=arm.seed,
        run=run_id(arm.out),
        phantoms=phantoms,
        predicts=done["classes"],
        weights=None if arm.tuned else part_of(arm.folder.path, f"{FILES[settings.keep]}.safetensors"),
        sites={name: SiteFacts(images=_training_images(sites[name]), own=own[name]) for name in names},
        seen=_save_seen(arm, [sites[name] for name in names]),
        calibration=calibrate_arm(arm, settings, sites),
        **({} if arm.federated else {"batch_norm": "average"}),
    )


def _training_images(site: Site) -> dict[str, int]:
    """Count the distinct training images of each class."""
    return class_counts(site.labels[np.unique(site.splits["train"])])


def _own_part(arm: Arm, settings: Settings, sites: Mapping[str, Site], name: str) -> Part | None:
    """Write the arrays with which a site's tested model differs from the shared one; None if they are the same."""
    if arm.tuned:
        return part_of(arm.folder.path, f"{name}/best.safetensors")
    own = _own_arrays(arm, settings, sites, name)
    return save_part(arm.folder.path, f"own-{name}.safetensors", own) if own else None


def _own_arrays(arm: Arm, settings: Settings, sites: Mapping[str, Site], name: str) -> State:
    """Return the arrays that differ, as `simulations.prediction.predict_arm` makes them."""
    kept = kept_round(settings, arm.folder.read_facts()["best_round"])
    own = own_arrays(settings.batch_norm, arm.out, arm.title, name, kept) if arm.federated else {}
    if not settings.recalibrate:
        return own
    device, shared = pick_device(settings.device), load_kept(arm.folder, settings)
    model = place_model(settings.model, device)
    set_state(model, shared | own)
    federation = federation_rows(settings, sites, arm.seed)
    recalibrate(model, site_rows(sites[name], settings, arm.seed, device, federation), settings)
    return {key: value for key, value in get_state(model).items() if not torch.equal(value, shared[key])}


def _save_seen(arm: Arm, sites: Sequence[Site]) -> Part:
    """Write the fingerprints of the images and patients that the model was trained or chosen on."""
    seen = [seen_at(arm.out, site) for site in sites]
    together = Seen(
        np.concatenate([each.hashes for each in seen]), frozenset().union(*(each.patients for each in seen))
    )
    return save_part(arm.folder.path, SEEN_FILE, together.to_tensors())
