"""Make the folder of every arm that a hub has trained a model folder.

It has neither the arrays that the sites keep for themselves nor fingerprints of their images, which never left them.
"""

from pathlib import Path

from fedbus.classes import CLASSES
from fedbus.evaluation.kept import FILES
from fedbus.model_folder.facts import ModelFacts, SiteFacts
from fedbus.model_folder.write import part_of, write_model
from fedbus.runs.checkpoint import arm_folder
from fedbus.runs.folder import run_id
from fedbus.settings.schema import Settings
from server.hub.audit import record_model
from server.hub.registrations import read_registrations


def write_hub_model(out: Path, settings: Settings, arm: str, seed: int) -> None:
    """Write the `model.json` of a finished arm.

    Args:
        out: The run folder.
        settings: Settings of the run.
        arm: The arm.
        seed: The training seed.

    Raises:
        RunError: If a file of the run is missing or damaged, or the disk is full.
    """
    folder, registrations = arm_folder(out, settings, arm, seed), read_registrations(out)
    done = folder.read_facts()
    sites = {
        name: SiteFacts(images=dict(zip(CLASSES, registration["splits"]["train"], strict=True)))
        for name, registration in registrations.items()
    }
    facts = ModelFacts.from_settings(
        settings,
        arm=arm,
        seed=seed,
        run=run_id(out),
        phantoms=any(registration["phantoms"] for registration in registrations.values()),
        predicts=done["classes"],
        weights=part_of(folder.path, f"{FILES[settings.keep]}.safetensors"),
        sites=sites,
        calibration=done.get("calibration"),  # arms of an earlier version have none
    )
    write_model(folder.path, facts)
    record_model(out, arm, seed, folder.path)
