"""Random views of a batch: drawn for many batches at once, made on the device where the batch lives.

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


def draw_views(batches: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw a view for every picture of several batches, so that they reach a device in one piece.

    Args:
        batches: how many.
        count: pictures of each.
        generator: on the CPU, so that a seed gives the same views on every device; it ends where as many single
            batches would have left it.

    Returns:
        float32 [batches, count, 8], on the CPU: an affine map (two rows of three) from places in the view to places
        in the picture, both in -1..1; then contrast and gain.
    """
    draws = torch.rand(batches, count, 7, generator=generator)
    turn, size, side, right, down, contrast, gain = (2 * draws - 1).unbind(dim=-1)
    angle, scale = ROTATION * turn, 1 + SCALE * size
    mirror = torch.where(side < 0, -scale, scale)
    return torch.stack(
        [
            mirror * angle.cos(), -scale * angle.sin(), 2 * SHIFT * right,
            mirror * angle.sin(), scale * angle.cos(), 2 * SHIFT * down,
            1 + CONTRAST * contrast, GAIN * gain,
        ],
        dim=-1,
    )  # fmt: skip


def augment(batch: Tensor, views: Tensor) -> Tensor:
    """Give each picture its view.

    Args:
        batch: float32 [B, 1, H, W] in [0, 1].
        views: float32 [B, 8], one batch's of `draw_views`, on the device of `batch`.

    Returns:
        float32 [B, 1, H, W] in [0, 1].
    """
    grid = F.affine_grid(views[:, :6].view(-1, 2, 3), list(batch.shape), align_corners=False)
    moved = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    contrast, gain = views[:, 6].view(-1, 1, 1, 1), views[:, 7].view(-1, 1, 1, 1)
    return ((moved - 0.5) * contrast + 0.5 + gain).clamp(0, 1)
