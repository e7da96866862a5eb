"""Personalisation: the kept model of a federated arm, fine-tuned at each hospital on its own training rows.

This is the baseline of local adaptation of Yu, Bagdasaryan and Shmatikov ("Salvaging Federated Learning by Local
Adaptation", 2020, section 3, fine-tuning). It takes steps beyond those of the other arms, and `done.json` says how
many: OUT/arms/ARM-tuned/SITE holds each hospital's model.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fedbus.device import pick_device
from fedbus.evaluation.predict import predict_split
from fedbus.evaluation.predictions import Predictions, join
from fedbus.evaluation.validation import score_split
from fedbus.models.build import place_model
from fedbus.models.state import set_state
from fedbus.runs.checkpoint import ArmFolder, Checkpoint, arm_folder
from fedbus.runs.site_state import own_model
from fedbus.settings.schema import Settings, tuned_from
from fedbus.sites.site import Site
from fedbus.training.rows import TrainingRows
from simulations.local_training import LocalTraining
from simulations.progress import ArmProgress

if TYPE_CHECKING:
    from simulations.arm import Arm  # which runs what stands here

TUNING_SHARE = 1 / 6
"""Of the study's rounds, one at least: small hospitals have a few hundred rows, and over-fit soon."""

RATE_SHARE = 0.1
"""Of the study's learning rate, so that what the hospitals learned together is bent and not replaced."""


def tuning_rounds(settings: Settings) -> int:
    """Rounds of tuning, as long as those of the study."""
    return max(1, round(settings.rounds * TUNING_SHARE))


@dataclass(frozen=True)
class FineTuning(LocalTraining):
    """A fit that starts from a trained model and may predict what that model may.

    Attributes:
        classes: positions in `CLASSES` that the shared model may predict; None: all. A hospital's own classes would
            let tuned models win by knowing which class is missing.
    """

    classes: tuple[int, ...] | None = None

    @property
    def present(self) -> Tensor | None:
        """The classes that the model may predict: those of the shared model."""
        return None if self.classes is None else torch.tensor(self.classes)

    def score_start(self, folder: ArmFolder) -> None:
        """Put the shared model in the folder as round 0, so that tuning has to beat it on the validation rows."""
        model = place_model(self.settings.model, pick_device(self.settings.device))
        set_state(model, self.start)
        (site,) = self.validation
        rank = score_split(model, site, "validation", self.settings, self.present).rank
        folder.save_weights("best", self.start, round=0)
        folder.save(Checkpoint(0, self.start, best_round=0, best_rank=rank))


def fine_tune_arm(
    arm: "Arm",
    settings: Settings,
    out: Path,
    sites: Mapping[str, Site],
    rows: Mapping[str, TrainingRows],
    progress: ArmProgress,
) -> None:
    """Tune the kept model of an arm's federated arm at every site, from where an earlier call stopped.

    Args:
        arm: a tuned arm; the arm that it goes on from is finished.
        settings: the settings.
        out: the run folder.
        sites: the hospitals.
        rows: the balanced training rows of each.
        progress: what the terminal shows.

    Raises:
        RunError: the federated arm's weights are missing or damaged, or a loss is not finite.
    """
    shared_name = tuned_from(arm.name)
    shared = arm_folder(out, settings, shared_name, arm.seed)
    before, start = shared.read_facts(), shared.load_weights("best")
    classes = None if before["classes"] is None else tuple(before["classes"])
    rate = settings.learning_rate * RATE_SHARE
    short = settings.model_copy(update={"rounds": tuning_rounds(settings), "learning_rate": rate})
    done = {}
    for name, site in sites.items():
        folder, steps = ArmFolder(arm.folder.path / name), rows[name].steps_per_round(settings)
        if not folder.finished:
            own = own_model(
                start, settings.batch_norm, out, f"{shared_name}-seed-{arm.seed}", name, before["best_round"]
            )
            tuning = FineTuning(short, arm.seed, rows[name], [site], steps, own, classes)
            if folder.load() is None:
                tuning.score_start(folder)
            with progress.arm(f"{arm.name} at {name}", arm.seed, short.rounds * steps * settings.batch_size) as advance:
                tuning.run(folder, advance)
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


def predict_fine_tuned(arm: "Arm", settings: Settings, sites: Mapping[str, Site], split: str = "test") -> Predictions:
    """Predict one part of all sites, each with its own tuned model.

    Args:
        arm: a finished tuned arm.
        settings: the settings.
        sites: the hospitals.
        split: of the split.

    Raises:
        RunError: weights are missing or damaged.
    """
    model = place_model(settings.model, pick_device(settings.device))
    classes = arm.folder.read_facts()["classes"]
    present = None if classes is None else torch.tensor(classes)
    answers = []
    for name, site in sites.items():
        set_state(model, ArmFolder(arm.folder.path / name).load_weights("best"))
        answers.append(predict_split(model, site, split, settings, present))
    return join(answers)
