"""Model inputs: grey images to the three normalised channels of an ImageNet model."""

import torch
from torch import Tensor

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of ImageNet's channels, which the pretrained weights expect."""


def normalise(batch: Tensor) -> Tensor:
    """Repeat a grey channel three times and normalise each as ImageNet's.

    Args:
        batch: float32 [B, 1, H, W] in [0, 1].

    Returns:
        float32 [B, 3, H, W], channels_last.
    """
    channels = [(batch - mean) / std for mean, std in zip(MEAN, STD, strict=True)]
    return torch.cat(channels, dim=1).contiguous(memory_format=torch.channels_last)
