"""A model folder from elsewhere, for a hub to evaluate."""

from pathlib import Path

import numpy as np

from fedbus.model_folder.facts import ModelFacts, SiteFacts
from fedbus.model_folder.seen import Seen
from fedbus.model_folder.write import SEEN_FILE, save_part, write_model
from fedbus.models.state import State
from fedbus.settings.schema import Settings


def model_folder(path: Path, settings: Settings, state: State, seen: np.ndarray | None = None, **changes) -> Path:
    """A model from elsewhere."""
    path.mkdir()
    hashes = None if seen is None else save_part(path, SEEN_FILE, Seen(seen, frozenset()).to_tensors())
    facts = {"arm": "centralised", "seed": 3, "run": "0" * 16, "phantoms": False, "predicts": None} | changes
    weights = save_part(path, "best.safetensors", state)
    sites = facts.pop("sites", {"east": SiteFacts(images={"benign": 9})})
    write_model(path, ModelFacts.from_settings(settings, weights=weights, sites=sites, seen=hashes, **facts))
    return path
