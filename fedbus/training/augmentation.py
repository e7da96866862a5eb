"""Random views of images: drawn for many batches at once, computed on the device of the batch.

Horizontal mirroring, small rotations, scalings and shifts, and changes of gain and contrast: variations that another
operator or another scanner setting would cause. Never mirrored vertically: acoustic shadow and enhancement always
appear *below* a lesion.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ROTATION = math.radians(10)
"""Largest rotation, in radians."""

SCALE = 0.1
"""Largest relative change of size."""

SHIFT = 0.05
"""Largest shift, as a share of the image's side."""

CONTRAST = 0.2
"""Largest relative change of the distance to mid-grey."""

GAIN = 0.1
"""Largest change of brightness, in [0, 1]."""


def draw_views(batches: int, count: int, generator: torch.Generator) -> Tensor:
    """Draw a view for every image of several batches, so that a single copy to the device is enough.

    Args:
        batches: Number of batches.
        count: Images per batch.
        generator: On the CPU, so that a seed gives the same views on every device. Batches drawn together are equal to
            batches drawn one after the other.

    Returns:
        float32 [batches, count, 8], on the CPU: an affine map (two rows of three) from positions in the view to
        positions in the image, both in -1..1, then contrast and gain.
    """
    draws = torch.rand(batches, count, 7, generator=generator)
    turn, size, side, right, down, contrast, gain = (2 * draws - 1).unbind(dim=-1)  # uniform in -1..1
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
    """Compute the view of each image.

    Args:
        batch: float32 [B, 1, H, W] in [0, 1].
        views: float32 [B, 8], one batch of `draw_views`, on the device of `batch`.

    Returns:
        float32 [B, 1, H, W] in [0, 1].
    """
    grid = F.affine_grid(views[:, :6].view(-1, 2, 3), list(batch.shape), align_corners=False)
    moved = F.grid_sample(batch, grid, padding_mode="border", align_corners=False)
    contrast, gain = views[:, 6].view(-1, 1, 1, 1), views[:, 7].view(-1, 1, 1, 1)
    return ((moved - 0.5) * contrast + 0.5 + gain).clamp(0, 1)
