"""The arithmetic of a run, settled once and written down with its settings."""

from fedbus.device import pick_device, pick_dtype
from fedbus.settings.schema import Study


def settle_precision(study: Study) -> Study:
    """Put what this machine decides in place of `precision = "auto"`: for every arm and cell, and for whoever resumes.

    On a Ray cluster every node decides for itself, because the one that asks need not be like those that train.
    """
    if study.precision != "auto" or study.ray_address:
        return study
    dtype = pick_dtype(study.precision, pick_device(study.device))
    return study.model_copy(update={"precision": str(dtype).removeprefix("torch.")})
