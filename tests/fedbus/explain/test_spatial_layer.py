"""The layer whose maps are shown: the last one with positions that everything passes through, or a clear refusal."""

import pytest
import torch
from torch import Tensor, nn

from fedbus.errors import ExplainError
from fedbus.explain.spatial_layer import find_spatial_layer, spatial_layer_of


@pytest.mark.parametrize(
    ("backbone", "image_size", "layer", "size"),
    [
        ("test_resnet", 64, "layer4", (2, 2)),
        ("test_resnet", 32, "layer3", (2, 2)),
        ("resnetv2_50", 32, "stages.3.blocks.0.norm1", (2, 2)),
        ("test_convnext", 64, "norm_pre", (2, 2)),
        ("test_vit", 160, "blocks.5.norm1", (10, 10)),
    ],
)
def test_the_layer_of_timm_models(backbone: str, image_size: int, layer: str, size: tuple[int, int]) -> None:
    """At 32 pixels, the last modules of both ResNets with positions are inside a residual branch."""
    found = spatial_layer_of(backbone, image_size)
    assert (found.name, found.size) == (layer, size)


class Branch(nn.Module):
    """Maps of 4 x 4 positions, of which a branch halves the size; both are pooled and added."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch, self.fc = nn.Conv2d(3, 5, 8, 8), nn.Conv2d(5, 5, 2, 2), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.stem(images)
        logits: Tensor = self.fc(maps.mean((2, 3)) + self.branch(maps).mean((2, 3)))
        return logits


def test_a_layer_that_a_part_of_the_input_passes_by_is_not_chosen() -> None:
    assert find_spatial_layer(Branch(), "branch", 32).name == "stem"


class ChannelsLast(nn.Module):
    """Maps with the channels last."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.fc = nn.Conv2d(3, 5, 8, 8), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.norm(self.stem(images).permute(0, 2, 3, 1)).mean((1, 2)))
        return logits


def test_maps_with_the_channels_last_are_rearranged() -> None:
    found = find_spatial_layer(ChannelsLast(), "last", 32)
    assert (found.name, found.size) == ("norm", (4, 4))
    values = torch.arange(2 * 4 * 4 * 5).reshape(2, 4, 4, 5)
    assert found.to_map(values)[1, 3, 2, 0] == values[1, 2, 0, 3]


def test_tokens_become_the_grid_of_their_patches() -> None:
    layer = spatial_layer_of("test_vit", 160)
    tokens = torch.arange(101).reshape(1, 101, 1)  # the class token first, then row by row
    assert torch.equal(layer.to_map(tokens)[0, 0], torch.arange(1, 101).reshape(10, 10))


class Flat(nn.Module):
    """Loses all positions at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(3, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.pool(images).flatten(1))
        return logits


def test_a_backbone_without_maps_is_refused_by_name() -> None:
    with pytest.raises(ExplainError, match="flat has no layer with a map at 32 pixels"):
        find_spatial_layer(Flat(), "flat", 32)
    with pytest.raises(ExplainError, match="levit_128s has no layer with a map"):
        spatial_layer_of("levit_128s", 224)
