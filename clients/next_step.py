"""What the operator of a site is told to do with a received model; importable without PyTorch."""

import shlex
from pathlib import Path

from fedbus.text import NOT_A_DEVICE

MODEL_FILE = "model.json"
"""As in `fedbus.model_folder.facts`, which imports PyTorch."""


def next_step(folder: Path, site: str) -> str:
    """Return the next command for a received model; empty for a folder that an earlier version wrote."""
    if not (folder / MODEL_FILE).is_file():
        return ""
    return f"Next: fedbus predict {shlex.quote(str(folder))} IMAGES --as {site}   ({NOT_A_DEVICE})"
