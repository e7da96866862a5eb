"""Whether a timm classifier can work with pictures of a study's size: found out before anything is decoded."""

import timm
import torch
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.errors import SettingsError
from fedbus.models.build import build_model

STEP = 32
"""Most backbones halve their input five times, so sizes are proposed in these steps."""

PICTURES = 2
"""Of the trial: the fewest of a training batch, since BatchNorm can't train on one value a channel."""


def check_input_size(name: str, image_size: int) -> None:
    """Send two pictures through a classifier, in training and in evaluation.

    The trial runs on torch's meta device, which follows shapes and computes nothing: it takes neither the model's
    memory nor its time.

    Args:
        name: a timm classifier.
        image_size: pixels a side, at least 1.

    Raises:
        SettingsError: timm has no such model; or the model has a fixed input size and this is another, feature maps
            of this size vanish inside it, its stem does not take three channels, or it does not answer with one
            output a class. A size that fits is proposed where there is one.
    """
    with torch.device("meta"):
        model = build_model(name)
    fault = _fault(model, image_size)
    if fault is None:
        return
    settings = timm.get_pretrained_cfg(name)
    own = int(settings.input_size[-1]) if settings else image_size
    fitting = next((size for size in _proposals(image_size, own) if _fault(model, size) is None), None)
    if fitting is None:
        raise SettingsError(
            f"model: {name} can't tell {len(CLASSES)} classes apart in pictures of three channels ({fault}).",
            "Choose another classifier, e.g. --set model=resnetv2_50.",
        )
    fixed = bool(settings and settings.fixed_input_size)
    why = f"takes pictures of {own} pixels a side" if fixed else "has no feature map left, or none that fits"
    raise SettingsError(
        f"model: {name} {why}; it can't work with image-size = {image_size} ({fault}).",
        f"The nearest size that fits: --set image-size={fitting}. Or choose another model.",
    )


def _fault(model: nn.Module, image_size: int) -> str | None:
    """Why a model on the meta device can't take pictures of this size, None if it can."""
    pictures = torch.empty(PICTURES, 3, image_size, image_size, device="meta")
    for training in (True, False):
        model.train(training)
        try:
            with torch.no_grad():
                answer = model(pictures)
        except Exception as error:  # timm's models fail by assertions, torch's layers each by an error of their own
            return (str(error) or type(error).__name__).splitlines()[0][:200].rstrip(".")
        if not isinstance(answer, Tensor) or answer.shape != (PICTURES, len(CLASSES)):
            found = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            return f"it answers with {found}, not with {[PICTURES, len(CLASSES)]}"
    return None


def _proposals(image_size: int, own: int) -> list[int]:
    """The size that a model was made for and multiples of `STEP` up to it, the nearest to `image_size` first."""
    sizes = {own, *range(STEP, max(own, image_size) + 1, STEP)}
    return sorted(sizes - {image_size}, key=lambda size: (abs(size - image_size), size))
