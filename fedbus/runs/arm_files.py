"""Where the files of an arm are stored; a command that only reads them needs no PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

HISTORY_FILE = "history.jsonl"
"""One line per finished round."""

DONE_FILE = "done.json"
"""Facts about a finished arm; written last."""

MODEL_FILE = "model.json"
"""What makes a folder a model folder, see `fedbus.model_folder`."""


def arm_path(out: Path, settings: "Settings", arm: str, seed: int) -> Path:
    """Locate the folder of an arm: `OUT/arms/ARM`, or `OUT/arms/ARM/seed-SEED` if there are several seeds."""
    path = out / "arms" / arm
    return path if len(settings.seeds) == 1 else path / f"seed-{seed}"
