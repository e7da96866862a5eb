"""The model that a deployed site receives at the end of a run: a model folder, with its metrics at the site.

MODELS/TITLE/  model.json  model.safetensors  seen-images.safetensors  metrics.json
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fedbus.classes import CLASSES
from fedbus.deployment.private_folder import new_folder
from fedbus.errors import RunError
from fedbus.evaluation.site_scores import SiteScores
from fedbus.model_folder.facts import ModelFacts, SiteFacts
from fedbus.model_folder.seen import Seen
from fedbus.model_folder.write import SEEN_FILE, part_of, save_part, write_model
from fedbus.models.batch_norm import OWN_PARTS
from fedbus.models.state import State
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.system.files import FRAGMENT, read_json, write_json
from fedbus.training.missing_classes.registry import predictable
from fedbus.transport.messages import Instruction

MODEL, METRICS = "model.safetensors", "metrics.json"


@dataclass(frozen=True, eq=False)
class TrainedAt:
    """What a site records about itself in the models that it receives; nothing of it is sent to the hub.

    Attributes:
        name: Its name.
        images: Distinct training images of each class.
        seen: Fingerprints of its training and validation images.
        phantoms: Whether its images are synthetic.
    """

    name: str
    images: Mapping[str, int]
    seen: Seen
    phantoms: bool


def keep_model(models: Path, site: TrainedAt, instruction: Instruction, state: State, test: SiteScores) -> Path:
    """Write a run's best model and its test metrics into a new model folder, completely or not at all.

    A received model is never overwritten: if the title has been used, the folder is called TITLE.2, TITLE.3 and so on.
    Only a model that is already stored with the same facts and metrics, as when a hub repeats its last request, is not
    stored again.

    Args:
        models: The folder of all received models.
        site: The site whose test rows were scored.
        instruction: The instruction that came with the model; its title names the run, arm and seed.
        state: The model, with the site's own arrays.
        test: Its test metrics.

    Returns:
        The folder of the model.

    Raises:
        RunError: If the disk is full or the folder is not writable.
    """
    received = _Received(site, instruction, state, {"site": site.name, "title": instruction.title, **test.metrics})
    _delete_drafts(models)
    # Some file systems do not distinguish case, so neither does the search for a free name.
    taken = {path.name.casefold(): path for path in models.glob("*")}
    name, number = instruction.title, 1
    while (path := taken.get(name.casefold())) is not None:
        if received.is_in(path):
            return path
        number += 1
        name = f"{instruction.title}.{number}"
    with new_folder(models / name) as folder:
        try:
            save_file(state, folder / MODEL, received.notes)
        except (OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
            raise RunError(
                f"{models / name / MODEL} could not be written ({error}); nothing incomplete is left.",
                "Free some disk space, then ask the coordinator to rerun with --resume.",
            ) from error
        save_part(folder, SEEN_FILE, received.seen)
        write_json(folder / METRICS, received.metrics)
        write_model(folder, received.facts(folder))
    return models / name


@dataclass(frozen=True, eq=False)
class _Received:
    """A model as it will be, or already is, in a folder."""

    site: TrainedAt
    instruction: Instruction
    state: State
    metrics: Mapping[str, object]

    @property
    def predicts(self) -> list[int]:
        """The classes that it may predict, as positions in `CLASSES`."""
        known = predictable(self.instruction.classes, self.instruction.settings)
        return list(known or range(len(CLASSES)))

    @property
    def notes(self) -> dict[str, str]:
        """The header of its weights, for readers that have only this file."""
        settings = self.instruction.settings
        return {
            "model": settings.model,
            "image-size": str(settings.image_size),
            "classes": ",".join(CLASSES),
            "predicts": ",".join(CLASSES[index] for index in self.predicts),
        }

    @property
    def seen(self) -> State:
        """The part `seen`."""
        return self.site.seen.to_tensors()

    def facts(self, folder: Path) -> ModelFacts:
        """Describe the model; the folder contains its parts."""
        settings, weights = self.instruction.settings, part_of(folder, MODEL)
        own = weights if settings.batch_norm in OWN_PARTS or settings.recalibrate else None
        return ModelFacts.from_settings(
            settings,
            arm=self.instruction.arm,
            seed=self.instruction.seed,
            run=self.instruction.run,
            phantoms=self.site.phantoms,
            predicts=self.predicts,
            weights=weights,
            sites={self.site.name: SiteFacts(images=dict(self.site.images), own=own)},
            seen=part_of(folder, SEEN_FILE),
            seen_in_part=True,
            calibration=self.instruction.calibration,
        )

    def is_in(self, folder: Path) -> bool:
        """Whether a folder contains this model, with these facts and metrics."""
        try:
            with safe_open(folder / MODEL, "pt") as file:
                names = set(file.keys())
                same = (
                    file.metadata() == self.notes
                    and names == self.state.keys()
                    and all(torch.equal(file.get_tensor(key), self.state[key]) for key in names)
                )
            return (
                same
                and read_json(folder / METRICS) == json.loads(json.dumps(self.metrics))
                and read_json(folder / MODEL_FILE) == self.facts(folder).model_dump(mode="json")
            )
        except (OSError, SafetensorError, RunError):  # of an older version, damaged or not a model
            return False


def _delete_drafts(models: Path) -> None:
    """Delete the unfinished folders of killed processes; of a site's processes, only one is running."""
    for path in models.glob(".*"):
        if FRAGMENT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
