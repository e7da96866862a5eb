"""Random views of a batch, made on the device where the batch lives.

Mirroring left and right, small rotations, scales and shifts, and changes of gain and contrast: what another hand
or another knob would have given. Never upside down: shadow and enhancement lie *behind* a lesion.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = math.radians(10)
SCALE = 0.1
SHIFT = 0.05
CONTRAST = 0.2
GAIN = 0.1


def augment(batch: Tensor, generator: torch.Generator) -> Tensor:
    """Augment grey images.

    Args:
        batch: float32 [B, 1, H, W] in [0, 1].
        generator: on the CPU, so that a seed gives the same views on every device.

    Returns:
        float32 [B, 1, H, W] in [0, 1].
    """
    count = len(batch)
    draws = torch.rand(count, 7, generator=generator).to(batch.device, non_blocking=True)
    centred = 2 * draws - 1
    angle, scale = ROTATION * centred[:, 0], 1 + SCALE * centred[:, 1]
    mirror = torch.where(draws[:, 2] < 0.5, -1.0, 1.0)
    theta = torch.zeros(count, 2, 3, device=batch.device)
    theta[:, 0, 0], theta[:, 0, 1] = mirror * scale * angle.cos(), -scale * angle.sin()
    theta[:, 1, 0], theta[:, 1, 1] = mirror * scale * angle.sin(), scale * angle.cos()
    theta[:, :, 2] = 2 * SHIFT * centred[:, 3:5]
    grid = F.affine_grid(theta, list(batch.shape), align_corners=False)
    moved = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    contrast, gain = (
        (1 + CONTRAST * centred[:, 5]).view(-1, 1, 1, 1),
        (GAIN * centred[:, 6]).view(-1, 1, 1, 1),
    )
    return ((moved - 0.5) * contrast + 0.5 + gain).clamp(0, 1)
