"""Build timm classifiers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError, listed
from fedbus.models.timm_import import import_timm


def build_model(name: str) -> nn.Module:
    """Build a timm classifier with three input channels and one output per class, randomly initialised.

    Args:
        name: `MODEL` or `MODEL.WEIGHTS`, as timm writes it. The weights are not loaded.

    Raises:
        SettingsError: If timm has no such model, or no such weights of it.
    """
    timm = import_timm()
    if not timm.is_model(name):
        close = timm.list_models(f"*{name}*")[:5]
        hint = f"Did you mean {listed(close)}?" if close else "See timm.list_models()."
        raise SettingsError(f"model: timm has no model called {name!r}.", hint)
    architecture, dot, tag = name.partition(".")
    tags = [known.partition(".")[2] for known in timm.list_pretrained(f"{architecture}.*")] if dot else [tag]
    if tag not in tags:
        raise SettingsError(
            f"model: timm has no {tag!r} weights of {architecture}.",
            f"Choose from {listed(tags)}." if tags else f"Leave out the weights: --set model={architecture}.",
        )
    model: nn.Module = timm.create_model(name, pretrained=False, num_classes=len(CLASSES))
    return model


def build_without_values(name: str, device: str = "meta") -> nn.Module:
    """Build a classifier without initial values; on torch's meta device also without memory.

    Raises:
        SettingsError: As `build_model`.
    """
    with torch.device(device), _NoInitialValues():
        return build_model(name)


RANDOM = (Tensor.normal_, Tensor.uniform_, Tensor.erfinv_, Tensor.clamp_)
"""By which timm fills tensors itself; the last two are steps of its truncated normal distribution."""


class _NoInitialValues(TorchFunctionMode):
    """Skips initialisation: it takes time, and on the meta device PyTorch imports its compiler for it."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        """Call a function of PyTorch, unless it fills a tensor with initial values."""
        if func in RANDOM or getattr(func, "__module__", "") == nn.init.__name__:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def model_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of a classifier's state by name, as in `get_state`, without memory for its values.

    Raises:
        SettingsError: As `build_model`.
    """
    arrays = build_without_values(name).state_dict()
    return {key: tuple(value.shape) for key, value in arrays.items() if not key.endswith("num_batches_tracked")}


def place_model(name: str, device: torch.device) -> nn.Module:
    """Build a timm classifier on a device, in channels_last, the memory format in which convolutions run fastest."""
    return build_model(name).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


def classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the modules that timm calls the classifier: usually one; empty if the model does not declare any."""
    configured = getattr(model, "default_cfg", {}).get("classifier", ())
    return (configured,) if isinstance(configured, str) else tuple(configured)
