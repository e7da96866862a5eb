"""Write a model folder: its parts first, `model.json` last, so that a folder with `model.json` is complete."""

import hashlib
from pathlib import Path

from safetensors.torch import save_file

from fedbus.model_folder.facts import ModelFacts, Part
from fedbus.models.state import State
from fedbus.runs.arm_files import MODEL_FILE
from fedbus.system.files import write_json, write_whole

SEEN_FILE = "seen-images.safetensors"
"""The file of the part `seen`."""


def save_part(folder: Path, name: str, tensors: State) -> Part:
    """Write tensors to a file of a model folder.

    Args:
        folder: The model folder.
        name: Name of the file, ending in `.safetensors`.
        tensors: Tensors by name, on the CPU, contiguous.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    write_whole(folder / name, lambda temporary: save_file(tensors, temporary))
    return part_of(folder, name)


def part_of(folder: Path, name: str) -> Part:
    """Describe a file that a folder has already; `name` is relative to the folder."""
    with (folder / name).open("rb") as file:
        return Part(file=name, sha256=hashlib.file_digest(file, "sha256").hexdigest())


def write_model(folder: Path, facts: ModelFacts) -> None:
    """Make a folder with all parts in place a model folder, by writing its `model.json`.

    Raises:
        RunError: If the disk is full or the folder can't be written.
    """
    write_json(folder / MODEL_FILE, facts.model_dump(mode="json"))
