"""The model that a deployed site receives at the end of a run, with its metrics on the site's test rows."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from fedbus.classes import CLASSES
from fedbus.deployment.private_folder import new_folder
from fedbus.errors import RunError
from fedbus.evaluation.site_scores import SiteScores
from fedbus.models.state import State
from fedbus.system.files import FRAGMENT, read_json, write_json
from fedbus.training.missing_classes.registry import predictable
from fedbus.transport.messages import Instruction

MODEL, METRICS = "model.safetensors", "metrics.json"


def keep_model(models: Path, site: str, instruction: Instruction, state: State, test: SiteScores) -> Path:
    """Write a run's best model and its test metrics into a new folder, completely or not at all.

    A received model is never overwritten: if the title has been used, the folder is called TITLE.2, TITLE.3 and so on.
    Only a model that is already stored with the same metrics, as when a hub repeats its last request, is not stored
    again.

    Args:
        models: The folder of all received models.
        site: The name of the site whose test rows were scored.
        instruction: The instruction that came with the model; its title names the run, arm and seed.
        state: The model.
        test: Its test metrics.

    Returns:
        The folder of the model.

    Raises:
        RunError: If the disk is full or the folder is not writable.
    """
    settings, title = instruction.settings, instruction.title
    known = predictable(instruction.classes, settings) or range(len(CLASSES))
    notes = {
        "model": settings.model,
        "image-size": str(settings.image_size),
        "classes": ",".join(CLASSES),
        "predicts": ",".join(CLASSES[index] for index in known),
    }
    metrics = {"site": site, "title": title, **test.metrics}
    _delete_drafts(models)
    # Some file systems do not distinguish case, so neither does the search for a free name.
    taken = {path.name.casefold(): path for path in models.glob("*")}
    name, number = title, 1
    while (path := taken.get(name.casefold())) is not None:
        if _contains(path, state, notes, metrics):
            return path
        number += 1
        name = f"{title}.{number}"
    with new_folder(models / name) as folder:
        try:
            save_file(state, folder / MODEL, notes)
        except (OSError, SafetensorError) as error:  # safetensors raises its own error for a full disk
            raise RunError(
                f"{models / name / MODEL} could not be written ({error}); nothing incomplete is left.",
                "Free some disk space, then ask the coordinator to rerun with --resume.",
            ) from error
        write_json(folder / METRICS, metrics)
    return models / name


def _delete_drafts(models: Path) -> None:
    """Delete the unfinished folders of killed processes; of a site's processes, only one is running."""
    for path in models.glob(".*"):
        if FRAGMENT.fullmatch(path.name) and path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)


def _contains(folder: Path, state: State, notes: Mapping[str, str], metrics: Mapping[str, Any]) -> bool:
    """Return whether a folder contains this model with these metrics."""
    try:
        with safe_open(folder / MODEL, "pt") as file:
            names = set(file.keys())
            return (
                file.metadata() == notes
                and names == state.keys()
                and all(torch.equal(file.get_tensor(key), state[key]) for key in names)
                and read_json(folder / METRICS) == json.loads(json.dumps(metrics))
            )
    except (OSError, SafetensorError, RunError):  # of an older version, damaged or not a model
        return False
