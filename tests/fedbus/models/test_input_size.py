"""Classifiers that can't process the images are refused before anything is decoded, with a size that fits."""

import tomllib
from pathlib import Path

import pytest
import timm
import torch
from timm.models import register_model
from torch import nn

from fedbus.errors import SettingsError
from fedbus.models.build import build_model
from fedbus.models.input_size import check_input_size


class Odd(nn.Module):
    """A classifier of one's own: what is wrong with it follows from its arguments."""

    def __init__(self, channels=3, pairs=False, num_classes=3):
        super().__init__()
        self.stem, self.fc, self.pairs = nn.Conv2d(channels, 4, 3), nn.Linear(4, num_classes), pairs
        self.pretrained_cfg = self.default_cfg = {"classifier": "fc"}

    def forward(self, images):
        answer = self.fc(self.stem(images).mean(dim=(2, 3)))
        return (answer, answer) if self.pairs and self.training else answer


def odd(name, **arguments):
    """Make a classifier known to timm under a name of its own."""

    def make(pretrained=False, num_classes=1000, **_):
        return Odd(**{"num_classes": num_classes} | arguments)

    make.__name__, make.__module__ = name, __name__
    register_model(make)
    return name


@pytest.mark.parametrize(
    ("name", "size"), [("test_resnet", 32), ("resnetv2_50", 32), ("inception_v3", 75), ("vit_tiny_patch16_224", 224)]
)
def test_what_fits_passes(name, size):
    check_input_size(name, size)


def test_every_backbone_of_the_study_accepts_its_images_and_has_weights():
    path = Path(__file__).resolve().parents[3] / "simulations" / "studies" / "backbones.toml"
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    models = content["grid"]["model"]
    assert content["default"] in models
    for model in models:
        check_input_size(model, content["settings"]["image-size"])
        assert timm.get_pretrained_cfg(model).has_weights, model


def test_a_fixed_input_size_is_named_and_proposed():
    with pytest.raises(SettingsError, match=r"vit_tiny_patch16_224 takes images of 224 .*image-size = 96") as caught:
        check_input_size("vit_tiny_patch16_224", 96)
    assert "--set image-size=224" in caught.value.remedy


def test_vanishing_feature_maps_are_found_to_the_pixel_and_a_size_that_fits_is_proposed():
    with pytest.raises(SettingsError, match=r"inception_v3 has no feature map left.*image-size = 74") as caught:
        check_input_size("inception_v3", 74)
    assert "--set image-size=96" in caught.value.remedy
    check_input_size("inception_v3", 96)


def test_a_size_that_windows_do_not_divide_is_refused():
    with pytest.raises(SettingsError, match=r"test_maxvit takes images of 160 .*divisible by window") as caught:
        check_input_size("test_maxvit", 192)
    assert "--set image-size=160" in caught.value.remedy


def test_a_stem_of_one_channel_is_refused():
    with pytest.raises(SettingsError, match=r"odd_grey .*three channels .*channel") as caught:
        check_input_size(odd("odd_grey", channels=1), 64)
    assert "resnetv2_50" in caught.value.remedy


def test_models_without_one_output_per_class_are_refused():
    with pytest.raises(SettingsError, match=r"odd_wide .*returns \[2, 7\], not \[2, 3\]"):
        check_input_size(odd("odd_wide", num_classes=7), 64)
    with pytest.raises(SettingsError, match=r"odd_pair .*returns tuple"):  # only in training
        check_input_size(odd("odd_pair", pairs=True), 64)
    check_input_size(odd("odd_good"), 64)


def test_unknown_models_are_refused():
    with pytest.raises(SettingsError, match="'resnetv2_5'"):
        check_input_size("resnetv2_5", 64)


def test_the_trial_changes_no_default_and_draws_no_random_number():
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    check_input_size("test_resnet", 32)
    assert torch.equal(torch.rand(2), expected)
    assert next(build_model("test_resnet").parameters()).device.type == "cpu"
