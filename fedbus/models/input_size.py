"""Check whether a timm classifier can process images of a given size, before any image is decoded."""

import torch
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError
from fedbus.models.build import build_without_values
from fedbus.models.timm_import import import_timm

SIZE_STEP = 32
"""Most backbones halve their input five times, so sizes are proposed in steps of 2^5 pixels."""

SMALL = 256
"""Up to this size, computing the trial batch takes less time than PyTorch needs to start without computing."""

TRIAL_IMAGES = 2
"""Images of the trial batch: in training, BatchNorm needs more than one value per channel."""


def check_input_size(name: str, image_size: int) -> None:
    """Pass a batch through a classifier, in training and in evaluation mode.

    Small images are computed, with weights of zero. Everything else, and what fails, runs on torch's meta device, which
    tracks shapes without memory and time, but takes 1.5 s to start: PyTorch imports its compiler for it.

    Args:
        name: A timm classifier.
        image_size: Pixels per side, at least 1.

    Raises:
        SettingsError: If timm has no such model, or it can't process such images: it has another fixed input size,
            its feature maps vanish at this size, it does not take three channels, or it does not return one output per
            class. The remedy proposes a size that fits, if there is one.
    """
    if image_size <= SMALL and _find_fault(_zero_model(name), image_size) is None:
        return
    model = build_without_values(name)
    fault = _find_fault(model, image_size)
    if fault is None:
        return
    config = import_timm().get_pretrained_cfg(name)
    native = int(config.input_size[-1]) if config else image_size
    fitting = next((size for size in _candidates(image_size, native) if _find_fault(model, size) is None), None)
    if fitting is None:
        raise SettingsError(
            f"model: {name} can't classify images of three channels into {len(CLASSES)} classes ({fault}).",
            "Choose another classifier, e.g. --set model=resnetv2_50.",
        )
    fixed = bool(config and config.fixed_input_size)
    why = f"takes images of {native} pixels per side" if fixed else "has no feature map left, or none that fits"
    raise SettingsError(
        f"model: {name} {why}; it can't work with image-size = {image_size} ({fault}).",
        f"Use the nearest size that fits, --set image-size={fitting}, or choose another model.",
    )


def _zero_model(name: str) -> nn.Module:
    """Build a model on the processor, filled with zeros."""
    model = build_without_values(name, "cpu")
    with torch.no_grad():
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.zero_()
    return model


def _find_fault(model: nn.Module, image_size: int) -> str | None:
    """Describe why a model can't process images of this size; None if it can."""
    images = torch.zeros(TRIAL_IMAGES, 3, image_size, image_size, device=next(model.parameters()).device)
    for training in (True, False):
        model.train(training)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):  # dropout must not change the caller's state
                output = model(images)
        except Exception as error:  # timm's models fail by assertions, torch's layers by various exceptions
            return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")
        if not isinstance(output, Tensor) or output.shape != (TRIAL_IMAGES, len(CLASSES)):
            found = list(output.shape) if isinstance(output, Tensor) else type(output).__name__
            return f"it returns {found}, not {[TRIAL_IMAGES, len(CLASSES)]}"
    return None


def _candidates(image_size: int, native: int) -> list[int]:
    """The model's native size and multiples of `SIZE_STEP`, the nearest to `image_size` first."""
    sizes = {native, *range(SIZE_STEP, max(native, image_size) + 1, SIZE_STEP)}
    return sorted(sizes - {image_size}, key=lambda size: (abs(size - image_size), size))
