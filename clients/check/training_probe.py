"""A few training steps on noise: how long one takes on this machine, and how much memory."""

import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import psutil
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedbus.classes import CLASSES
from fedbus.device import autocast, pick_dtype
from fedbus.models.inputs import normalise
from fedbus.settings.schema import Settings
from fedbus.training.balance import Balanced
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows, load_rows

MOST_STEPS, MOST_SECONDS = 3, 20.0
"""After the warm-up; no further step starts once the time is up."""

STATES_A_WEIGHT = 4
"""The weight, its gradient and AdamW's two momenta, all float32."""

MODEL_COPIES = 4
"""Of the weights, on their way in and out: as a message and unpacked, each way."""

SAMPLE_SECONDS = 0.01


@dataclass(frozen=True)
class Trial:
    """What a trial showed.

    Attributes:
        step_seconds: median of the timed steps; of the warm-up, if that alone used the time up.
        memory: bytes that training needs at most: of this process, or of the GPU.
        free: bytes that it may have.
    """

    step_seconds: float
    memory: int
    free: int


def free_memory(device: torch.device) -> int:
    """Bytes that a training process may have: what is free, and what this process, which will be gone, has now."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) + int(psutil.Process().memory_info().rss)


def model_bytes(model: nn.Module) -> int:
    """Bytes of a model's parameters and buffers in float32."""
    return 4 * sum(int(value.numel()) for value in model.state_dict().values())


def estimate_memory(model: nn.Module, settings: Settings, device: torch.device) -> int:
    """Bytes that training will take on top of the libraries, from what small batches leave for the backward pass.

    On a processor, a step that needs more than there is ends the process without a word, so this comes first.
    """
    few, more = (_saved_bytes(model, settings, device, count) for count in (2, 4))  # BatchNorm refuses one alone
    fixed = model_bytes(model) * (STATES_A_WEIGHT + MODEL_COPIES)
    return fixed + (more - few) // 2 * settings.batch_size


def _saved_bytes(model: nn.Module, settings: Settings, device: torch.device, count: int) -> int:
    """Bytes of all tensors that a forward pass of `count` pictures keeps for the backward pass."""
    saved: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    batch = torch.rand(count, 1, settings.image_size, settings.image_size, device=device)
    model.train()
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(device, pick_dtype(settings.precision, device)),
    ):
        logits = model(normalise(batch))
    total = sum(saved.values())
    del logits  # not before: it holds the storages, and a freed one's address could come again
    return total


def run_trial(
    model: nn.Module, settings: Settings, device: torch.device, advance: Callable[[int], object] = lambda _: None
) -> Trial:
    """Train the study's model on noise: a warm-up step, then up to `MOST_STEPS` timed ones.

    Args:
        model: on the device, channels_last; its weights change.
        settings: its batch size, image size, optimiser and precision.
        device: where the model lies.
        advance: told of every step.

    Raises:
        RunError: the loss is not finite.
    """
    rows, optimiser = _noise_rows(settings, device), make_optimiser(model, settings)
    free = free_memory(device)
    times: list[float] = []
    began = time.monotonic()
    with _Peak(device) as peak:
        while len(times) <= MOST_STEPS and time.monotonic() - began < MOST_SECONDS:
            started = time.monotonic()
            train_round(model, rows, settings, seed=0, round_number=1, steps=1, optimiser=optimiser)
            times.append(time.monotonic() - started)
            advance(1)
    copies = 0 if device.type == "cuda" else MODEL_COPIES * model_bytes(model)
    return Trial(statistics.median(times[1:] or times), peak.bytes + copies, free)


def _noise_rows(settings: Settings, device: torch.device) -> TrainingRows:
    count = settings.batch_size
    generator = np.random.default_rng(0)
    pixels: NDArray[np.uint8] = generator.integers(
        0, 256, (count, settings.image_size, settings.image_size), dtype=np.uint8
    )
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    none = np.empty((0, *pixels.shape[1:]), dtype=np.uint8)
    everything = Balanced(np.arange(count), labels, none, np.ones(len(CLASSES), dtype=np.float32))
    return load_rows("noise", pixels, everything, count, device)


class _Peak:
    """The most memory in use while the block runs: of the GPU by its own count, else of this process, sampled."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes, self.done = device, 0, threading.Event()
        self.sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self.sampler.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.device.type == "cuda":
            self.bytes = int(torch.cuda.max_memory_reserved(self.device))
        else:
            self.done.set()
            self.sampler.join()

    def _sample(self) -> None:
        process = psutil.Process()
        while True:
            self.bytes = max(self.bytes, int(process.memory_info().rss))
            if self.done.wait(SAMPLE_SECONDS):
                return
