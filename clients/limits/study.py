"""Check the settings of a study against a site's limits, before anything is prepared or built."""

import math
import re
import time
from functools import lru_cache

from clients.limits.limits import Limits
from clients.limits.privacy import privacy_faults
from clients.limits.refusal import refusal
from fedbus.models.build import model_shapes
from fedbus.settings.schema import Settings
from fedbus.system.progress import Progress
from fedbus.training.rows import TrainingRows
from fedbus.transport.packing import Layout, number_of_values

MODEL_NAME = r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}"
"""Pattern of timm's model names. It excludes what timm would load from a folder or the network, such as `hf-hub:`."""

MILLION = 1_000_000

BYTES_PER_VALUE = 3 * 4
"""Disk space that a message takes per value of the model: a received model, or an optimiser's two moments, in float32
beside the one before."""


def check_study(settings: Settings, limits: Limits, *, training: bool = True) -> int:
    """Check everything that follows from the settings.

    Args:
        settings: Settings of the study.
        limits: The site's limits.
        training: Whether the site shall train; otherwise only what scoring a model takes is limited.

    Returns:
        The disk space that one message may take, in bytes.

    Raises:
        RefusedError: If the study leaks on purpose, or exceeds a limit; it names every such setting.
        SettingsError: If there is no such model.
    """
    faults = [
        f"{name} = {value}, above this site's {limit} = {most}"
        for name, value, limit, most, trains in (
            ("rounds", settings.rounds, "max-rounds", limits.max_rounds, True),
            ("steps-per-round", settings.steps_per_round, "max-steps", limits.max_steps, True),
            ("image-size", settings.image_size, "max-image-size", limits.max_image_size, False),
            ("batch-size", settings.batch_size, "max-batch-size", limits.max_batch_size, True),
        )
        if value > most and (training or not trains)
    ]
    faults += privacy_faults(settings, limits.require_privacy, training=training)
    if settings.split != "groups":
        faults.append(f"split = {settings.split} leaks test images into training")
    if training and settings.steps_per_round and settings.batches == "equal":
        images = settings.steps_per_round * settings.batch_size
        if images < limits.min_update_images:
            faults.append(_too_few_images(images, limits))
    if not re.fullmatch(MODEL_NAME, settings.model):
        faults.append("model is not a name of timm's")
    elif _values(settings) > limits.max_parameters * MILLION:
        size = math.ceil(_values(settings) / MILLION)
        faults.append(
            f"the model has {size} million values, above this site's max-parameters = {limits.max_parameters}"
        )
    if faults:
        raise refusal(faults)
    return BYTES_PER_VALUE * _values(settings)


@lru_cache(maxsize=4)
def model_layout(name: str) -> Layout:
    """Return the names and shapes of a model's arrays, in the order in which they are packed, without building it.

    Raises:
        SettingsError: If there is no such model.
    """
    shapes = model_shapes(name)
    return {key: shapes[key] for key in sorted(shapes)}


def _values(settings: Settings) -> int:
    return number_of_values(model_layout(settings.model))


def check_update(rows: TrainingRows, settings: Settings, limits: Limits) -> None:
    """Check how many steps a round takes on a site's rows, and how many distinct images its update is made of.

    Raises:
        RefusedError: If it takes too many steps, or too few images.
    """
    steps, faults = rows.steps_per_round(settings), []
    if steps > limits.max_steps:
        faults.append(f"{steps} steps per round, above this site's max-steps = {limits.max_steps}")
    images = min(steps * rows.batch_size(settings), len(set(rows.index.tolist())), rows.distinct)
    if images < limits.min_update_images:
        faults.append(_too_few_images(images, limits))
    if faults:
        raise refusal(faults)


def time_limit(limits: Limits | None) -> Progress:
    """Return a function that raises once more than the allowed minutes have passed since this call; None: never.

    Raises:
        RefusedError: From the function.
    """
    started = time.monotonic()

    def check(_: int) -> None:
        if limits and time.monotonic() - started > limits.max_minutes * 60:
            raise refusal([f"the round takes longer than this site's max-minutes = {limits.max_minutes}"])

    return check


def _too_few_images(images: int, limits: Limits) -> str:
    return f"an update of {images} images, below this site's min-update-images = {limits.min_update_images}"
