"""The arithmetic of a run, settled once and written down with its settings."""

from fedbus.device import pick_device, pick_dtype
from fedbus.settings.schema import Settings


def resolve_precision(settings: Settings) -> Settings:
    """Put what this machine decides in place of `precision = "auto"`: for every arm and cell, and for whoever resumes.

    On a Ray cluster every node decides for itself, because the one that asks need not be like those that train.
    """
    if settings.precision != "auto" or settings.ray_address:
        return settings
    dtype = pick_dtype(settings.precision, pick_device(settings.device))
    return settings.model_copy(update={"precision": str(dtype).removeprefix("torch.")})
