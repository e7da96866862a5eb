"""The models of a finished run, by arm."""

from collections.abc import Mapping
from pathlib import Path

from fedbus.errors import RunError
from fedbus.model_folder.read import ModelFolder, read_model
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.runs.folder import is_run
from fedbus.settings.arms import OWN

RunModels = Mapping[str, list[ModelFolder]]
"""By arm, one model folder per seed."""


def read_run_models(run: Path) -> RunModels:
    """Read the model folders of a run: those of the sites alone first, then the centralised one, then federated ones.

    Raises:
        RunError: If the folder contains no run, the run has no models, or a model folder is damaged.
    """
    if not is_run(run):
        raise RunError(f"{run} contains no run.", "Name the folder that `fedbus compare` was called with as --out.")
    found: dict[str, list[ModelFolder]] = {}
    for file in sorted(run.glob(f"arms/**/{MODEL_FILE}")):
        folder = read_model(file.parent)
        found.setdefault(folder.facts.arm, []).append(folder)
    if not found:
        read_model(run)  # raises the error that explains what to do
    return {arm: found[arm] for arm in sorted(found, key=_family)}


def models_at(models: RunModels, site: str) -> RunModels:
    """Choose the arms that have a model for a site; its own model alone is called `local`."""
    own = f"local-{site}"
    shared = {arm: folders for arm, folders in models.items() if not arm.startswith("local-")}
    return ({OWN: models[own]} if own in models else {}) | shared


def _family(arm: str) -> int:
    return 0 if arm.startswith("local-") else 1 if arm == "centralised" else 2
