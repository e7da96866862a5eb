"""The model that a deployed site receives at the end of a run, with its metrics on the site's test rows."""

from pathlib import Path

from safetensors.torch import save_file

from fedbus.classes import CLASSES
from fedbus.evaluation.site_scores import SiteScores
from fedbus.models.state import State
from fedbus.system.files import write_json, write_whole
from fedbus.training.missing_classes.registry import predictable
from fedbus.transport.messages import Instruction


def keep_model(folder: Path, site: str, instruction: Instruction, state: State, test: SiteScores) -> None:
    """Write a run's best model and its test metrics, each file atomically.

    Args:
        folder: The folder of this run, arm and seed.
        site: The name of the site whose test rows were scored.
        instruction: The instruction that came with the model.
        state: The model.
        test: Its test metrics.

    Raises:
        RunError: If the disk is full or the folder is not writable.
    """
    settings = instruction.settings
    known = predictable(instruction.classes, settings) or range(len(CLASSES))
    notes = {
        "model": settings.model,
        "image-size": str(settings.image_size),
        "classes": ",".join(CLASSES),
        "predicts": ",".join(CLASSES[index] for index in known),
    }
    write_whole(folder / "model.safetensors", lambda temporary: save_file(state, temporary, notes))
    write_json(folder / "metrics.json", {"site": site, "title": instruction.title, **test.metrics})
