"""Estimate BatchNorm's running statistics again for weights that have changed since they were gathered.

Running statistics are moving averages over the last batches of training. They do not fit weights that were averaged
over sites or rounds afterwards. Wu and Johnson ("Rethinking 'Batch' in BatchNorm", 2021, section 3) compute them
exactly for the final weights, from training images. Here each site uses its own, so nothing is sent.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fedbus.device import autocast, pick_dtype
from fedbus.models.inputs import normalise
from fedbus.training.rows import TrainingRows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack

BATCH = 64
"""Images per forward pass. Larger than most training batches: the variance is that of all images, not of one batch."""


def recalibrate(model: nn.Module, rows: TrainingRows, settings: "Settings") -> None:
    """Replace the running statistics of a model, in place, by those of balanced training rows without augmentation.

    Args:
        model: Model on the device of `rows`. A model without BatchNorm stays unchanged.
        rows: Training rows of the site at which the model is scored.
        settings: Settings of the comparison; the precision is used.
    """
    estimate_statistics(model, rows.images, rows.index, settings)


@torch.no_grad()
def estimate_statistics(model: nn.Module, images: Tensor, index: Tensor, settings: "Settings") -> None:
    """Replace the running statistics of a model, in place, by those of images without labels.

    Args:
        model: Model on the device of `images`. A model without BatchNorm stays unchanged.
        images: uint8 [U, 1, H, W].
        index: int64 [M], positions in `images`, in batches of this order.
        settings: Settings of the comparison; the precision is used.
    """
    layers = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not layers:
        return
    model.eval()
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # a plain mean over batches
        layer.train()
    device = images.device
    dtype = pick_dtype(settings.precision, device)
    for batch in index.tensor_split(max(1, len(index) // BATCH)):  # of nearly equal size: equal weights
        with autocast(device, dtype):
            model(normalise(images.index_select(0, batch).float() / 255))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    model.eval()
