"""timm classifiers, their start weights, and the state that travels between sites."""

import timm
import torch
from torch import nn

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError, listed


def build_model(name: str) -> nn.Module:
    """Build a timm classifier with one output a class, randomly initialised, three input channels.

    Raises:
        SettingsError: timm has no such model, or none of the weights that follow the dot in `MODEL.WEIGHTS`.
    """
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:5]
        hint = f"Did you mean {listed(close)}?" if close else "See timm.list_models()."
        raise SettingsError(f"model: timm has no model called {name!r}.", hint)
    architecture, dot, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")] if dot else [tag]
    if tag not in tags:
        raise SettingsError(
            f"model: timm has no {tag!r} weights of {architecture}.",
            f"Choose from {listed(tags)}." if tags else f"Name the model alone: --set model={architecture}.",
        )
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=len(CLASSES))
    return model


def place_model(name: str, device: torch.device) -> nn.Module:
    """Build a timm classifier on the device, channels_last, which convolutions run fastest in."""
    return build_model(name).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that timm calls the classifier: mostly one, none where it does not say."""
    configured = getattr(model, "default_cfg", {}).get("classifier", ())
    return (configured,) if isinstance(configured, str) else tuple(configured)
