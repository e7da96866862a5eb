"""Training probe: a few steps on noise, to measure the time of a step and the memory that training needs."""

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
from fedbus.system.allocator import release_freed_memory
from fedbus.training.balance import Balanced
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows, load_rows

MAX_STEPS, MAX_SECONDS = 3, 20.0
"""After the warm-up; no further step starts after this time."""

VALUES_PER_WEIGHT = 4
"""The weight, its gradient and AdamW's two moments, all float32."""

MODEL_COPIES = 4
"""Of the weights, while they are received and sent: packed in a message and unpacked, each way."""

SAMPLE_SECONDS = 0.01
"""Interval at which the memory of this process is read."""


@dataclass(frozen=True)
class ProbeResult:
    """What a training probe measured.

    Attributes:
        step_seconds: Median of the timed steps; the warm-up's time if there was no time for another step.
        memory: Peak memory of training in bytes, of this process or of the GPU.
        free: Bytes available for it.
    """

    step_seconds: float
    memory: int
    free: int


def free_memory(device: torch.device) -> int:
    """Bytes available for a training process: the free memory, and on a CPU also what this process has now.

    This process will have ended when the site trains.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available) + int(psutil.Process().memory_info().rss)


def model_bytes(model: nn.Module) -> int:
    """Size of a model's parameters and buffers in bytes, as float32."""
    return 4 * sum(int(value.numel()) for value in model.state_dict().values())


def estimate_memory(model: nn.Module, settings: Settings, device: torch.device) -> int:
    """Estimate the bytes that training needs in addition to the libraries, from forward passes of small batches.

    Checked before the probe, because on a CPU a step that needs more memory than there is kills the process.
    """
    # The difference of two batches is what one image needs; what does not depend on the batch size cancels out.
    # Not from one image: BatchNorm refuses a batch of one.
    two, four = (_saved_bytes(model, settings, device, count) for count in (2, 4))
    fixed = model_bytes(model) * (VALUES_PER_WEIGHT + MODEL_COPIES)
    return fixed + (four - two) // 2 * settings.batch_size


def _saved_bytes(model: nn.Module, settings: Settings, device: torch.device, count: int) -> int:
    """Bytes of all tensors that a forward pass of `count` images saves for the backward pass."""
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
    del logits  # not earlier: it keeps the storages, and the address of a freed one could be used again
    return total


def run_probe(
    model: nn.Module, settings: Settings, device: torch.device, advance: Callable[[int], object] = lambda _: None
) -> ProbeResult:
    """Train a model on noise: a warm-up step, then up to `MAX_STEPS` timed ones.

    Args:
        model: A model on the device, channels_last; its weights change.
        settings: The run's settings; batch size, image size, optimiser and precision count.
        device: The device of the model.
        advance: Called after every step.

    Raises:
        RunError: If the loss is not finite.
    """
    rows, optimiser = _noise_rows(settings, device), make_optimiser(model, settings)
    free = free_memory(device)
    times: list[float] = []
    start = time.monotonic()
    with _PeakMemory(device) as peak:
        while len(times) <= MAX_STEPS and time.monotonic() - start < MAX_SECONDS:
            step_start = time.monotonic()
            train_round(model, rows, settings, seed=0, round_number=1, steps=1, optimiser=optimiser)
            times.append(time.monotonic() - step_start)
            advance(1)
    # The probe neither receives nor sends weights; on a GPU, those copies are in the other memory.
    copies = 0 if device.type == "cuda" else MODEL_COPIES * model_bytes(model)
    return ProbeResult(statistics.median(times[1:] or times), peak.bytes + copies, free)


def _noise_rows(settings: Settings, device: torch.device) -> TrainingRows:
    count = settings.batch_size
    generator = np.random.default_rng(0)
    pixels: NDArray[np.uint8] = generator.integers(
        0, 256, (count, settings.image_size, settings.image_size), dtype=np.uint8
    )
    labels = np.arange(count, dtype=np.int64) % len(CLASSES)
    no_synthetic = np.empty((0, *pixels.shape[1:]), dtype=np.uint8)
    balanced = Balanced(np.arange(count), labels, no_synthetic, np.ones(len(CLASSES), dtype=np.float32))
    return load_rows("noise", pixels, balanced, count, device)


class _PeakMemory:
    """Peak memory while the block runs: of the GPU as PyTorch counts it, else of this process, sampled by a thread."""

    def __init__(self, device: torch.device) -> None:
        self.device, self.bytes, self.done = device, 0, threading.Event()
        self.sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Self:
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            release_freed_memory()  # what earlier work has left is not in use
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
