"""The same architecture with random weights: what a map shows of it is the image and the architecture, no learning."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedbus.device import pick_device
from fedbus.models.build import place_model
from fedbus.seeds import derive_seed
from fedbus.settings.schema import Settings
from fedbus.training.recalibration import estimate_statistics

MOST_IMAGES = 256
"""Images that BatchNorm's statistics are estimated from, at most."""


def randomise(settings: Settings, images: NDArray[np.uint8], draw: int) -> nn.Module:
    """Build a model with weights drawn as for training from scratch.

    BatchNorm's statistics are estimated from the images, so that activations neither vanish nor grow from layer to
    layer, as they may with the statistics that a new layer starts with.

    Args:
        settings: Architecture and device.
        images: uint8 [N, H, W].
        draw: Number of the draw; the same number gives the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(0, "randomised weights", draw))
        model = place_model(settings.model, pick_device(settings.device))
    chosen = torch.from_numpy(np.array(images[:MOST_IMAGES])).unsqueeze(1).to(next(model.parameters()).device)
    float32 = settings.model_copy(update={"precision": "float32"})
    estimate_statistics(model, chosen, torch.arange(len(chosen), device=chosen.device), float32)
    return model.eval()
