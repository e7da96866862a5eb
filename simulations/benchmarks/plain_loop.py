"""A typical training loop to compare ours with: image folders, torchvision, a DataLoader, float32.

It does what a good tutorial does: images are decoded and augmented by persistent worker processes, pinned memory feeds
a GPU, and classes are balanced by `WeightedRandomSampler` with as many draws as random over-sampling (ROS) has rows.
Weights, optimiser, learning rate, schedule and label smoothing are those of the settings. It differs from our loop in
details: it does not mask missing classes, applies weight decay to biases and norms too, drops the last incomplete batch
of an epoch, and reads the loss at every step.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, WeightedRandomSampler
from torchvision import transforms
from torchvision.datasets import ImageFolder

from fedbus.errors import SettingsError
from fedbus.models.build import build_model
from fedbus.models.inputs import MEAN, STD
from fedbus.models.state import State, set_state
from fedbus.training.optimiser import learning_rate

if TYPE_CHECKING:  # a machine that only trains may lack the packages that these import
    from fedbus.settings.schema import Settings
    from simulations.benchmarks.case import Case

WORKERS = min(8, os.cpu_count() or 1)
"""Worker processes of a DataLoader."""

Batches = DataLoader[tuple[Tensor, Tensor]]
"""Yields float32 [B, 3, size, size] and int64 [B]."""


@dataclass(frozen=True)
class PlainRun:
    """The result of a run of the plain loop.

    Attributes:
        model: The trained model, on its device.
        losses: The loss of every step.
        seconds: Duration of the steps after the warm-up.
        images: Images of the steps after the warm-up.
    """

    model: nn.Module
    losses: list[float]
    seconds: float
    images: int


def train_plain(folder: Path, case: "Case", steps: int, seed: int, warmup_steps: int = 0) -> PlainRun:
    """Train from the case's start weights; the learning-rate schedule spans `steps`.

    Args:
        folder: A tree made by `write_image_folders`.
        case: The case with the start weights and the settings.
        steps: Optimiser steps, at least 1.
        seed: Seed of the draws and of augmentation.
        warmup_steps: Number of first steps that are not timed; worker processes start in the first.

    Raises:
        SettingsError: If the folder's balanced rows do not fill a batch.
    """
    model = load_model(case.settings, case.start).to(plain_device(case.settings))
    loader = training_batches(folder, case.settings, seed)
    return train_steps(model, loader, case.settings, steps, warmup_steps=warmup_steps)


def plain_device(settings: "Settings") -> torch.device:
    """Return the GPU if there is one and the settings allow it; unlike `pick_device`, change no setting of PyTorch."""
    return torch.device("cuda" if settings.device != "cpu" and torch.cuda.is_available() else "cpu")


def load_model(settings: "Settings", state: State) -> nn.Module:
    """Build the model with these weights."""
    model = build_model(settings.model)
    set_state(model, state)
    return model


def training_batches(folder: Path, settings: "Settings", seed: int) -> Batches:
    """Make balanced, augmented batches of the training rows; iterate again for the next epoch.

    Raises:
        SettingsError: If the balanced rows do not fill a batch.
    """
    views = transforms.Compose(
        [
            transforms.Resize((settings.image_size, settings.image_size)),
            transforms.RandomHorizontalFlip(),
            transforms.RandomRotation(10),
            transforms.ColorJitter(brightness=0.1, contrast=0.2),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    dataset = open_image_folder(folder, "train", views)
    sampler = balancing_sampler(dataset.targets, seed)
    if sampler.num_samples < settings.batch_size:
        raise SettingsError(
            f"{folder} has {sampler.num_samples} balanced rows, fewer than a batch.", "Use --set batch-size=4."
        )
    torch.manual_seed(seed % 2**63)  # worker processes draw their augmentation from it
    return DataLoader(
        dataset,
        batch_size=settings.batch_size,
        sampler=sampler,
        num_workers=WORKERS,
        persistent_workers=True,
        pin_memory=plain_device(settings).type == "cuda",
        drop_last=True,
    )


def open_image_folder(folder: Path, split: str, transform: Callable[[Any], Any] | None = None) -> ImageFolder:
    """Open one split of a tree made by `write_image_folders`; its labels are positions in `CLASSES`."""
    return ImageFolder(str(folder / split), transform=transform, allow_empty=True)


def balancing_sampler(labels: list[int], seed: int) -> WeightedRandomSampler:
    """Draw rows with replacement, all present classes equally often, as many as random over-sampling would have."""
    counts = np.bincount(labels)
    weights = [1 / counts[label] for label in labels]
    draws = int(np.count_nonzero(counts) * counts.max())
    return WeightedRandomSampler(weights, draws, replacement=True, generator=torch.Generator().manual_seed(seed))


@torch.backends.cudnn.flags(enabled=True)  # PyTorch's defaults, not those that our loop needs for repeatability
def train_steps(
    model: nn.Module, loader: Batches, settings: "Settings", steps: int, round_number: int = 1, rounds: int = 1,
    warmup_steps: int = 0,
) -> PlainRun:  # fmt: skip
    """Train a model on its device for one round, in place, with a new optimiser.

    Args:
        model: Model on its device, NCHW.
        loader: Batches, iterated as often as the steps need.
        settings: The settings; `rounds` is not used.
        steps: Optimiser steps, at least 1.
        round_number: Number of this round, from 1; decides which part of the schedule it follows.
        rounds: Number of rounds of the whole schedule.
        warmup_steps: As in `train_plain`.
    """
    device = next(model.parameters()).device
    criterion = nn.CrossEntropyLoss(label_smoothing=settings.label_smoothing)
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    model.train()
    losses: list[float] = []
    images, started = 0, time.perf_counter()
    while len(losses) < steps:
        for inputs, labels in loader:
            for group in optimiser.param_groups:
                group["lr"] = learning_rate(settings, (round_number - 1 + len(losses) / steps) / rounds)
            loss = criterion(model(inputs.to(device)), labels.to(device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
            images += len(labels)
            if len(losses) == warmup_steps:
                images, started = 0, time.perf_counter()
            if len(losses) == steps:
                break
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return PlainRun(model, losses, time.perf_counter() - started, images)


def scoring_batches(folder: Path, split: str, settings: "Settings") -> Batches:
    """Make batches of a split's images, each once and not augmented."""
    plain = transforms.Compose(
        [
            transforms.Resize((settings.image_size, settings.image_size)),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    return DataLoader(open_image_folder(folder, split, plain), batch_size=settings.batch_size, num_workers=WORKERS)


def score(model: nn.Module, loader: Batches) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy, in [0, 1], of a model on its device."""
    device = next(model.parameters()).device
    model.eval()
    loss, right, count = 0.0, 0, 0
    with torch.no_grad():
        for inputs, labels in loader:
            logits = model(inputs.to(device)).cpu()
            loss += nn.functional.cross_entropy(logits, labels, reduction="sum").item()
            right += int((logits.argmax(dim=1) == labels).sum().item())
            count += len(labels)
    return loss / count, right / count


def accuracy(model: nn.Module, folder: Path, case: "Case") -> float:
    """Return the accuracy, in [0, 1], on the test rows of a tree made by `write_image_folders`."""
    return score(model, scoring_batches(folder, "test", case.settings))[1]
