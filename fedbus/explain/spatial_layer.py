"""Find the layer of any timm classifier whose output Grad-CAM can show as a map.

It is the last module that everything passes through on its way to the classifier and whose output still has positions:
feature maps, or tokens of a grid of patches. That everything passes through it is read from the graph of the logits:
without the layer, they would not depend on the input. Where the final maps have shrunk to one pixel, the last module
with positions is inside a residual branch, which would show only a part of what the classifier sees.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor, nn

from fedbus.errors import ExplainError
from fedbus.models.build import build_without_values

CHANNELS_LAST = "NHWC"


@dataclass(frozen=True, eq=False)
class SpatialLayer:
    """A layer whose output can be shown as a map.

    Attributes:
        name: Its name in the model.
        size: Height and width of the map.
        to_map: Rearranges its output as [B, C, H, W], in a copy.
    """

    name: str
    size: tuple[int, int]
    to_map: Callable[[Tensor], Tensor]


@lru_cache
def spatial_layer_of(backbone: str, image_size: int) -> SpatialLayer:
    """Find the spatial layer of a timm classifier, as `find_spatial_layer`, on a model without values.

    Raises:
        SettingsError: If timm has no such model.
        ExplainError: If it has no such layer.
    """
    return find_spatial_layer(build_without_values(backbone).eval(), backbone, image_size)


def find_spatial_layer(model: nn.Module, backbone: str, image_size: int) -> SpatialLayer:
    """Find the last layer with positions that everything passes through.

    Args:
        model: A classifier on its device, in evaluation mode.
        backbone: Its name, for errors.
        image_size: Width and height of its input, in pixels.

    Raises:
        ExplainError: If it has no such layer.
    """
    device = next(model.parameters()).device
    trial = torch.zeros(1, 3, image_size, image_size, device=device, requires_grad=True)
    outputs, logits = _outputs_with_positions(model, trial)
    for output in reversed(outputs):
        if len(output.shape) == 3 and getattr(model, "global_pool", None) == "token":
            return _before_attention(model, backbone, outputs)
        if not _reaches(logits, trial, without=output.node):
            return _as_layer(model, backbone, output)
    raise ExplainError(
        f"{backbone} has no layer with a map at {image_size} pixels per side: it loses all positions too early.",
        "Explain a convolutional backbone such as resnetv2_50, trained with a larger image-size.",
    )


@dataclass(frozen=True, eq=False)
class _Output:
    """The output of one module: the module's name, the output's shape, and its node in the graph of the logits."""

    name: str
    shape: tuple[int, ...]
    node: Any


def _outputs_with_positions(model: nn.Module, trial: Tensor) -> tuple[list[_Output], Tensor]:
    """List the modules whose output may have positions, in the order in which they finish, and the logits."""
    found: list[_Output] = []

    def note(name: str, _: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, Tensor) and _has_positions(tuple(output.shape)):
            found.append(_Output(name, tuple(output.shape), output.grad_fn))

    handles = [module.register_forward_hook(partial(note, name)) for name, module in model.named_modules() if name]
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return found, model(trial)
    finally:
        for handle in handles:
            handle.remove()


def _reaches(logits: Tensor, trial: Tensor, without: Any) -> bool:
    """Whether the logits depend on the input other than through one node of their graph."""
    seen, waiting = {without}, [logits.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        if getattr(node, "variable", None) is trial:
            return True
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return False


def _has_positions(shape: tuple[int, ...]) -> bool:
    """Whether an output may be maps [B, C, H, W] or [B, H, W, C] of a square image, or tokens [B, N, C]."""
    if len(shape) == 4:
        return (shape[2] == shape[3] > 1) or (shape[1] == shape[2] > 1)
    return len(shape) == 3 and shape[1] > 1


def _as_layer(model: nn.Module, backbone: str, output: _Output) -> SpatialLayer:
    """Describe how the output of a layer becomes maps."""
    if len(output.shape) == 3:
        return _token_layer(model, backbone, output)
    _, second, third, fourth = output.shape
    if second == third and (third != fourth or getattr(model, "output_fmt", "") == CHANNELS_LAST):
        return SpatialLayer(output.name, (second, third), lambda values: values.permute(0, 3, 1, 2).clone())
    return SpatialLayer(output.name, (third, fourth), torch.clone)


def _before_attention(model: nn.Module, backbone: str, outputs: list[_Output]) -> SpatialLayer:
    """Return the normalisation before the last attention of a transformer that classifies one token.

    After it, the tokens of patches no longer reach the classifier.
    """
    norms = [output for output in outputs if re.fullmatch(r"blocks\.\d+\.norm1", output.name)]
    if not norms:
        raise _no_grid(backbone)
    return _token_layer(model, backbone, norms[-1])


def _token_layer(model: nn.Module, backbone: str, output: _Output) -> SpatialLayer:
    """Arrange the tokens of a layer as the grid of patches that they come from."""
    grids = (getattr(module, "grid_size", None) for module in model.modules())
    grid = next((size for size in grids if isinstance(size, tuple) and len(size) == 2), None)
    prefix = int(getattr(model, "num_prefix_tokens", 0))
    if grid is None or output.shape[1] - prefix != grid[0] * grid[1]:
        raise _no_grid(backbone)

    def to_map(values: Tensor) -> Tensor:
        return values[:, prefix:].transpose(1, 2).reshape(len(values), -1, *grid).clone()

    return SpatialLayer(output.name, grid, to_map)


def _no_grid(backbone: str) -> ExplainError:
    return ExplainError(
        f"{backbone} has no layer with a map: its last tokens are not those of a grid of patches.",
        "Explain a model with another backbone, such as resnetv2_50 or vit_tiny_patch16_224.",
    )
