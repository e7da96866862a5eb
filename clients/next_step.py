"""What the operator of a site is told to do with a received model; importable without PyTorch."""

import shlex
from pathlib import Path

from fedbus.runs.arm_files import MODEL_FILE
from fedbus.text import NOT_A_DEVICE


def next_step(folder: Path, site: str) -> str:
    """Return the next command for a received model; empty for a folder that an earlier version wrote."""
    if not (folder / MODEL_FILE).is_file():
        return ""
    return f"Next: fedbus predict {shlex.quote(str(folder))} IMAGES --as {site}   ({NOT_A_DEVICE})"
