"""Personalisation: the tested model of a federated arm, fine-tuned at each site on the site's own training rows.

This is fine-tuning as in Yu, Bagdasaryan and Shmatikov, "Salvaging Federated Learning by Local Adaptation", 2020,
section 3. It takes more optimiser steps than the other arms; `done.json` records how many. The model of each site is in
OUT/arms/ARM-tuned/SITE. Whatever `keep` is, it is the one with the lowest validation loss, the untuned model included:
tuning that does not help is not used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from fedbus.device import pick_device
from fedbus.evaluation.kept import kept_round, load_kept
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions, join
from fedbus.evaluation.validation import score_split, selection_loss
from fedbus.models.build import place_model
from fedbus.models.state import set_state
from fedbus.runs.checkpoint import ArmFolder, Checkpoint, arm_folder
from fedbus.runs.site_state import own_model
from fedbus.settings.arms import tuned_from, tuning_rounds
from fedbus.settings.schema import Settings
from fedbus.sites.site import Site
from fedbus.tracking.tracker import Tracker
from fedbus.training.rows import TrainingRows
from simulations.arm import Arm
from simulations.local_training import LocalTraining
from simulations.progress import ArmProgress

RATE_SHARE = 0.1
"""Share of the comparison's learning rate, so that tuning adapts the shared model and does not replace it."""


@dataclass(frozen=True)
class FineTuning(LocalTraining):
    """Local training that starts from a trained model, and may predict the classes that this model may.

    Attributes:
        classes: Positions in `CLASSES` that the shared model may predict; None: all. If a tuned model were restricted
            to the site's own classes, it would gain by knowing which class is missing.
    """

    classes: tuple[int, ...] | None = None

    @property
    def present(self) -> Tensor | None:
        """int64 [K], the classes that the shared model may predict; None: all."""
        return None if self.classes is None else torch.tensor(self.classes)

    def score_start(self, folder: ArmFolder) -> None:
        """Record the shared model as round 0: a tuned model is chosen only if it is better on the validation rows."""
        model = place_model(self.settings.model, pick_device(self.settings.device))
        set_state(model, self.start)
        (site,) = self.validation
        loss = selection_loss([score_split(model, site, "validation", self.settings, self.present)])
        folder.save_weights("best", self.start, round=0)
        folder.save(Checkpoint(0, self.start, best_round=0, best_loss=loss))


def fine_tune_arm(
    arm: Arm,
    settings: Settings,
    out: Path,
    sites: Mapping[str, Site],
    rows: Mapping[str, TrainingRows],
    progress: ArmProgress,
    tracker: Tracker,
) -> None:
    """Fine-tune the best model of a federated arm at every site, continuing where an earlier call stopped.

    Args:
        arm: A tuned arm, whose federated arm is finished.
        settings: Settings of the comparison.
        out: Run folder.
        sites: Sites by name.
        rows: Training rows by site.
        progress: Progress display.
        tracker: Where the figures of every round are also sent, as `ARM-tuned-SITE`.

    Raises:
        RunError: If the federated arm's weights are missing or damaged, or a loss is not finite.
    """
    shared_name = tuned_from(arm.name)
    shared = arm_folder(out, settings, shared_name, arm.seed)
    before, start = shared.read_facts(), load_kept(shared, settings)
    classes = None if before["classes"] is None else tuple(before["classes"])
    rate = settings.learning_rate * RATE_SHARE
    tuned_settings = settings.model_copy(update={"rounds": tuning_rounds(settings.rounds), "learning_rate": rate})
    done = {}
    for name, site in sites.items():
        folder, steps = ArmFolder(arm.folder.path / name), rows[name].steps_per_round(settings)
        if not folder.finished:
            kept = kept_round(settings, before["best_round"])
            own = own_model(start, settings.batch_norm, out, f"{shared_name}-seed-{arm.seed}", name, kept)
            tuning = FineTuning(tuned_settings, arm.seed, rows[name], [site], steps, own, classes)
            if folder.load() is None:
                tuning.score_start(folder)
            with progress.arm(
                f"{arm.name} at {name}", arm.seed, tuned_settings.rounds * steps * settings.batch_size
            ) as advance:
                tuning.run(folder, advance, tracker.follow(f"{arm.name}-{name}", arm.seed))
        done[name] = folder.read_facts()
    extra = sum(facts["steps"] for facts in done.values())
    arm.folder.finish(
        {
            "steps": before["steps"] + extra,
            "extra_steps": extra,
            "best_round": before["best_round"],
            "best_tuning_rounds": {name: facts["best_round"] for name, facts in done.items()},
            "seconds": before["seconds"] + sum(facts["seconds"] for facts in done.values()),
            "classes": before["classes"],
        }
    )


def predict_fine_tuned(arm: Arm, settings: Settings, sites: Mapping[str, Site], split: str = "test") -> Predictions:
    """Predict one split of all sites, each with its own tuned model.

    Args:
        arm: A finished tuned arm.
        settings: Settings of the comparison.
        sites: Sites by name.
        split: `train`, `validation` or `test`; `held-out` where the sites have it.

    Raises:
        RunError: If weights are missing or damaged.
    """
    model = place_model(settings.model, pick_device(settings.device))
    classes = arm.folder.read_facts()["classes"]
    present = None if classes is None else torch.tensor(classes)
    parts = []
    for name, site in sites.items():
        set_state(model, ArmFolder(arm.folder.path / name).load_weights("best"))
        parts.append(predict_split(model, site, split, settings, present))
    return join(parts)
