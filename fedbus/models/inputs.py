"""What a model is given: normalised pictures."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass  # needs pydantic, which a machine that only trains need not have

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which every start weight here was trained with."""


def normalise(batch: Tensor) -> Tensor:
    """Grey float32 [B, 1, H, W] in [0, 1] to the three normalised channels of an ImageNet model, channels_last."""
    channels = [(batch - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)
