"""Check whether a timm classifier can process images of a given size, before any image is decoded."""

import torch
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError
from fedbus.models.build import build_model

SIZE_STEP = 32
"""Most backbones halve their input five times, so sizes are proposed in steps of 2^5 pixels."""

TRIAL_IMAGES = 2
"""Images of the trial batch: in training, BatchNorm needs more than one value per channel."""


def check_input_size(name: str, image_size: int) -> None:
    """Pass a batch through a classifier, in training and in evaluation mode.

    The trial runs on torch's meta device, which tracks shapes without computing: it needs neither the model's memory
    nor its time.

    Args:
        name: A timm classifier.
        image_size: Pixels per side, at least 1.

    Raises:
        SettingsError: If timm has no such model, or it can't process such images: it has another fixed input size,
            its feature maps vanish at this size, it does not take three channels, or it does not return one output per
            class. The remedy proposes a size that fits, if there is one.
    """
    import timm  # takes seconds, see `build_model`

    with torch.device("meta"):
        model = build_model(name)
    fault = _find_fault(model, image_size)
    if fault is None:
        return
    config = timm.get_pretrained_cfg(name)
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


def _find_fault(model: nn.Module, image_size: int) -> str | None:
    """Describe why a model on the meta device can't process images of this size; None if it can."""
    images = torch.empty(TRIAL_IMAGES, 3, image_size, image_size, device="meta")
    for training in (True, False):
        model.train(training)
        try:
            with torch.no_grad():
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
