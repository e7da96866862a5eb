"""Grad-CAM: which positions of the last feature maps speak for a class.

Each map is weighted by the mean gradient of the class's score with respect to it, the weighted maps are added up, and
what speaks against the class is set to 0. Source: Selvaraju et al., "Grad-CAM: Visual explanations from deep networks
via gradient-based localization", ICCV 2017.

The score is the log-odds of the class, its logit against those of the other classes together. A logit alone is defined
only up to a constant that all classes share: that of a predicted class may be negative, and its map empty.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.explain.spatial_layer import SpatialLayer
from fedbus.models.inputs import normalise
from fedbus.system.progress import Progress

BATCH = 64
"""Images per forward pass, as in prediction: only the classifier after the layer is differentiated."""

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class _LogOdds:
    """The log-odds of a class among those that the model may predict, from the logits [3] of one image."""

    index: int
    others: tuple[int, ...]

    def __call__(self, logits: Tensor) -> Tensor:
        own = logits[self.index]
        return own - logits[list(self.others)].logsumexp(dim=0) if self.others else own


class _UnscaledGradCam(GradCAM):  # type: ignore[misc]  # the library has no types
    """Grad-CAM whose maps keep size and values; the library enlarges each and moves its range to 0 to 1.

    That would move the lowest value to 0, so that the share of a region in a map would depend on the map's minimum.
    """

    def compute_cam_per_layer(self, input_tensor: Tensor, targets: Sequence[Any], eigen_smooth: bool) -> Maps:
        """Compute the maps of the one layer; of a layer that runs several times, those of the last time."""
        seen = self.activations_and_grads
        activations, gradients = seen.activations[-1].numpy(), seen.gradients[-1].numpy()
        signed = self.get_cam_image(input_tensor, self.target_layers[0], targets, activations, gradients, eigen_smooth)
        return np.asarray(np.maximum(signed, 0), dtype=np.float32)

    def aggregate_multi_layers(self, cam_per_target_layer: Maps) -> Maps:
        """Return the maps of the one layer."""
        return cam_per_target_layer


def compute_maps(
    model: nn.Module,
    layer: SpatialLayer,
    images: NDArray[np.uint8],
    classes: NDArray[np.int64],
    predicts: Sequence[str] = CLASSES,
    progress: Progress = lambda _: None,
) -> Maps:
    """Compute the Grad-CAM map of one class for each image, in float32 whatever the model was trained in.

    Args:
        model: A classifier on its device; it is put in evaluation mode.
        layer: Its spatial layer.
        images: uint8 [N, H, W], of the model's image size.
        classes: int64 [N], the class to explain of each image.
        predicts: The classes that the model may predict.
        progress: Called with the number of images of every batch.

    Returns:
        float32 [N, h, w], at least 0; h and w are the layer's size. All 0 where nothing speaks for the class.
    """
    device, module = next(model.parameters()).device, model.get_submodule(layer.name)
    known = [CLASSES.index(name) for name in predicts]
    found = [np.empty((0, *layer.size), dtype=np.float32)]
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        _cut_before_gradients(model, module),
        _UnscaledGradCam(model, [module], reshape_transform=layer.to_map) as cam,
    ):
        for start in range(0, len(images), BATCH):
            batch = torch.from_numpy(np.array(images[start : start + BATCH])).to(device)
            targets = [
                _LogOdds(int(index), tuple(other for other in known if other != index))
                for index in classes[start : start + BATCH]
            ]
            found.append(cam(normalise(batch.unsqueeze(1).float() / 255), targets))
            progress(len(batch))
    return np.concatenate(found)


def resize_maps(maps: Maps, size: tuple[int, int]) -> Maps:
    """Enlarge maps [N, h, w] to a height and width, bilinearly: between the centres of its positions, a map is linear.

    Returns:
        float32 [N, height, width].
    """
    return np.asarray(F.interpolate(torch.from_numpy(maps)[:, None], size, mode="bilinear")[:, 0])


@contextmanager
def _cut_before_gradients(model: nn.Module, module: nn.Module) -> Iterator[None]:
    """Let gradients begin at the output of a module: Grad-CAM needs none before it, and they cost most of the time."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.requires_grad_(False)
    handle = module.register_forward_hook(lambda *call: call[-1].detach().requires_grad_())
    try:
        yield
    finally:
        handle.remove()
        for parameter in wanted:
            parameter.requires_grad_()
