"""The precision of a run: decided once, and recorded with its settings."""

from fedbus.device import pick_device, pick_dtype
from fedbus.settings.schema import Settings


def resolve_precision(settings: Settings) -> Settings:
    """Replace `precision = "auto"` by what suits this machine, so that all arms and resumed runs use the same.

    With a Ray cluster `auto` remains, and every node decides: this machine may differ from those that train.
    """
    if settings.precision != "auto" or settings.ray_address:
        return settings
    if settings.dp_epsilon:
        return settings.model_copy(update={"precision": "float32"})  # as patients' gradients are computed
    dtype = pick_dtype(settings.precision, pick_device(settings.device))
    return settings.model_copy(update={"precision": str(dtype).removeprefix("torch.")})
