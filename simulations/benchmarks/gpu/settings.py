"""What to measure, and the settings and images of a training, without the packages that a GPU machine may lack."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import torch

from fedbus.classes import CLASSES
from fedbus.training.balance import Balanced
from fedbus.training.rows import TrainingRows, load_rows

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings

IMAGES = 512
"""Images in memory for measurements of speed, as many as a small hospital's dataset has."""


@dataclass(frozen=True)
class GpuSettings:
    """The settings that training reads, with the defaults of `Settings`, which needs pydantic."""

    model: str = "resnetv2_50"
    image_size: int = 224
    batch_size: int = 32
    rounds: int = 12
    local_epochs: float = 1.0
    steps_per_round: int = 0
    optimiser: str = "adamw"
    learning_rate: float = 3e-4
    weight_decay: float = 0.01
    schedule: str = "cosine"
    warmup: float = 0.05
    label_smoothing: float = 0.1
    missing_classes: str = "mask"
    missing_strength: float = 0.2
    batch_norm: str = "average"
    augmentation: bool = True
    precision: str = "auto"
    device: str = "auto"

    @property
    def settings(self) -> "Settings":
        """These settings as the training loop's argument."""
        return cast("Settings", self)


@dataclass(frozen=True)
class Plan:
    """What to measure, and how long.

    Attributes:
        settings: Image size, precision and device, and the model that most stages measure.
        checkpoints: Folder of unfinished trainings of the comparison.
        models: Further models, of which only the speed is measured.
        batch_sizes: Batch sizes of `settings.model`; the further models are measured with the first.
        images: Images that a loop trains on in one turn, at least `TURN_STEPS` batches.
        turns: Turns of each loop.
        epoch_steps: Optimiser steps of a site in a round.
        seconds: The budget of the call.
        packed: Folder that `simulations.portable.pack` wrote; None: no comparison.
    """

    settings: GpuSettings
    checkpoints: Path
    models: tuple[str, ...] = ("resnetv2_50d_gn", "convnext_tiny", "densenet121")
    batch_sizes: tuple[int, ...] = (64, 32, 128)
    images: int = 1600
    turns: int = 3
    epoch_steps: int = 30
    seconds: float = 580.0
    packed: Path | None = None

    def case(self, model: str, batch_size: int) -> GpuSettings:
        """Return the settings for another model and batch size."""
        return replace(self.settings, model=model, batch_size=batch_size)


def noise_rows(gpu_settings: GpuSettings, count: int, device: torch.device, seed: int = 0) -> TrainingRows:
    """Draw `count` images of noise, their classes in turn."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, gpu_settings.image_size, gpu_settings.image_size), dtype=np.uint8)
    labels, nothing = np.arange(count, dtype=np.int64) % len(CLASSES), pixels[:0]
    balanced = Balanced(np.arange(count), labels, nothing, np.ones(len(CLASSES), dtype=np.float32))
    return load_rows(f"noise-{seed}", pixels, balanced, count, device)
