"""A finished comparison of two small sites, whose arms are model folders; trained in seconds, in one process."""

from pathlib import Path

from rich.console import Console

from fedbus.settings.schema import Settings
from simulations.compare import compare

ARMS = ("local", "centralised", "fedavg", "fedavg-tuned", "fedavg-blended")


def train_run(settings: Settings, out: Path, **changes: object) -> Path:
    """Run a comparison in one process, with FedBN so that the sites have arrays of their own; return its folder.

    Args:
        settings: The fixture `two_site_settings`.
        out: The run folder, not existing yet.
        **changes: Fields of the settings that differ.
    """
    fields = {"arms": ARMS, "engine": "in-process", "batch_norm": "local", "rounds": 2, "precision": "float32"}
    compare(settings.model_copy(update=fields | changes), out, resume=False, console=Console(quiet=True))
    return out
