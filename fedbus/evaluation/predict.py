"""Apply a model to the images of a site."""

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.device import autocast, pick_dtype
from fedbus.evaluation.predictions import Predictions
from fedbus.models.inputs import normalise
from fedbus.system.progress import Progress

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings  # needs pydantic, which a machine that only trains may lack
    from fedbus.sites.site import Site

BATCH = 64
"""Images per forward pass; without gradients, a fixed number fits wherever training does."""


def predict_split(
    model: nn.Module,
    site: "Site",
    split: str,
    settings: "Settings",
    present: Tensor | None = None,
    progress: Progress = lambda _: None,
) -> Predictions:
    """Predict one split of one site.

    Args:
        model: A timm classifier on its device.
        site: The site.
        split: `train`, `validation` or `test`; `held-out` where the site has it.
        settings: Settings of the comparison; the precision is used.
        present: int64 [K], the classes that the model may predict; None: all.
        progress: Called with the number of images of every batch.
    """
    rows = site.splits[split]
    return Predictions(
        labels=site.labels[rows],
        probabilities=predict(model, site.pixels[rows], settings, present, progress),
        groups=np.array([f"{site.name}/{group}" for group in site.groups[rows]]),
        sites=np.array([site.name] * len(rows)),
        paths=site.paths[rows],
    )


@torch.inference_mode()
def predict(
    model: nn.Module,
    images: NDArray[np.uint8],
    settings: "Settings",
    present: Tensor | None = None,
    progress: Progress = lambda _: None,
) -> NDArray[np.float64]:
    """Compute the class probabilities of images.

    Args:
        model: A classifier on its device; it is put in evaluation mode.
        images: uint8 [N, H, W].
        settings: Settings of the comparison; the precision is used.
        present: int64 [K], the classes that the model may predict; the others get probability 0. None: all.
        progress: Called with the number of images of every batch.

    Returns:
        float64 [N, 3], rows sum to 1.
    """
    model.eval()
    device = next(model.parameters()).device
    dtype = pick_dtype(settings.precision, device)
    absent = torch.ones(len(CLASSES), dtype=torch.bool)
    absent[slice(None) if present is None else present.cpu()] = False
    absent = absent.to(device)
    parts = [torch.empty(0, len(CLASSES), dtype=torch.float64, device=device)]
    for start in range(0, len(images), BATCH):
        batch = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)  # a copy: the map is read-only
        with autocast(device, dtype):
            logits = model(normalise(batch.unsqueeze(1).float() / 255)).float()
        parts.append(logits.masked_fill(absent, -torch.inf).double().softmax(dim=1))
        progress(len(batch))
    return torch.cat(parts).cpu().numpy()
