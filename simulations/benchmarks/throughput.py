"""Measure images per second of training loops, in turns in one process, and the parts of a training step.

Imports no more than training does, so that it runs on a machine with only PyTorch and timm.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import nn

from fedbus.classes import CLASSES
from fedbus.device import autocast, pick_dtype
from fedbus.models.inputs import normalise
from fedbus.training.augmentation import augment, draw_views
from fedbus.training.cuda_graph import prepare_steps
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows
from simulations.benchmarks.plain_loop import Batches, train_steps

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings

Speed = Callable[[int], float]
"""Trains for this many steps, after a warm-up, and returns images per second."""

WARMUP_STEPS = 2
"""At the start of every turn, to fill caches and let processes of the previous turn end."""


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the wall-clock seconds of work on a device, until all of it is finished."""
    _wait(device)
    started = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - started


def ceiling_speed(model: nn.Module, settings: "Settings") -> Speed:
    """Make the ceiling of a training loop: steps on one resident batch, without sampling, loading and logging.

    Args:
        model: Model on its device, channels_last; trained in place.
        settings: The settings: batch and image size, precision, optimiser.
    """
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(settings.batch_size, 1, settings.image_size, settings.image_size, generator=generator)
    batch, labels = normalise(images.to(device)), (torch.arange(settings.batch_size) % len(CLASSES)).to(device)
    optimiser, dtype = make_optimiser(model, settings), pick_dtype(settings.precision, device)

    def step() -> None:
        with autocast(device, dtype):
            logits = model(batch)
        loss = F.cross_entropy(logits.float(), labels)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()

    def train(steps: int) -> None:
        model.train()
        with prepare_steps(step, optimiser, device, steps) as take:
            for _ in range(steps):
                take(settings.learning_rate)
            _wait(device)

    return _speed(train, settings.batch_size, device)


def timm_speed(model: nn.Module, settings: "Settings") -> Speed:
    """Make the speed of the step that timm's own training benchmark takes, with AdamW: one resident batch.

    Args:
        model: Model on its device, channels_last; trained in place.
        settings: The settings: batch and image size, precision, learning rate.
    """
    from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]  # imported late: timm takes seconds

    device = next(model.parameters()).device
    dtype, criterion = pick_dtype(settings.precision, device), nn.CrossEntropyLoss().to(device)
    shape = (settings.batch_size, 3, settings.image_size, settings.image_size)
    batch = torch.randn(shape, device=device).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(settings.batch_size, device=device) % len(CLASSES)
    optimiser = create_optimizer_v2(model, opt="adamw", lr=settings.learning_rate)

    def train(steps: int) -> None:
        model.train()
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, deterministic=False):
            for _ in range(steps):
                optimiser.zero_grad()
                with autocast(device, dtype):
                    loss = criterion(model(batch), labels)
                loss.backward()
                optimiser.step()
            _wait(device)

    return _speed(train, settings.batch_size, device)


def engine_speed(model: nn.Module, rows: TrainingRows, settings: "Settings") -> Speed:
    """Make the speed of FedBUS's training loop.

    Args:
        model: Model on the device of `rows`, channels_last; trained in place.
        rows: Training rows.
        settings: The settings.
    """
    optimiser = make_optimiser(model, settings)

    def train(steps: int) -> None:
        train_round(model, rows, settings, seed=0, round_number=1, steps=steps, optimiser=optimiser)

    return _speed(train, settings.batch_size, rows.images.device)


def plain_speed(model: nn.Module, batches: Batches, settings: "Settings") -> Speed:
    """Make the speed of the plain loop, with PyTorch's default cuDNN settings; ours uses deterministic kernels.

    Args:
        model: Model on its device, NCHW; trained in place.
        batches: Batches made by `training_batches`.
        settings: The settings.
    """

    def speed(steps: int) -> float:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False):
            run = train_steps(model, batches, settings, WARMUP_STEPS + steps, warmup_steps=WARMUP_STEPS)
        return run.images / run.seconds

    return speed


def take_turns(speeds: Mapping[str, Speed], steps: int, turns: int) -> dict[str, list[float]]:
    """Measure loops in turns, reversing their order each time.

    Returns:
        Images per second of every loop, one value per turn: those of one turn had the same conditions.
    """
    found: dict[str, list[float]] = {name: [] for name in speeds}
    for turn in range(turns):
        for name in list(speeds)[:: -1 if turn % 2 else 1]:
            found[name].append(speeds[name](steps))
    return found


def median_ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """Return the median of the ratios of each turn."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def compare_speeds(found: Mapping[str, list[float]]) -> dict[str, Any]:
    """Compare our loop with its ceiling and the plain loop.

    Args:
        found: Images per second by turn of `ceiling`, `ours` and `plain`, as `take_turns` returns them.
    """
    return {
        "engine_over_ceiling": median_ratio(found["ours"], found["ceiling"]),
        "engine_over_plain": median_ratio(found["ours"], found["plain"]),
        "images_per_second": {name: statistics.median(each) for name, each in found.items()},
        "images_per_second_by_turn": found,
    }


def step_costs(model: nn.Module, rows: TrainingRows, settings: "Settings", steps: int) -> dict[str, float]:
    """Measure the milliseconds of each part of a training step, medians over `steps`.

    Each part is waited for. On a GPU, which works while the loop runs ahead, a step takes less than their sum.
    """
    device, dtype = rows.images.device, pick_dtype(settings.precision, rows.images.device)
    optimiser, generator = make_optimiser(model, settings), torch.Generator().manual_seed(0)
    laps: dict[str, list[float]] = {}

    def lap(name: str, since: float) -> float:
        _wait(device)
        now = time.perf_counter()
        laps.setdefault(name, []).append(1000 * (now - since))
        return now

    model.train()
    for _ in range(steps + WARMUP_STEPS):
        picked = torch.randint(len(rows.index), (settings.batch_size,), generator=generator).to(device)
        views, labels = draw_views(1, settings.batch_size, generator)[0].to(device), rows.labels[picked]
        _wait(device)
        now = time.perf_counter()
        batch = rows.images.index_select(0, rows.index[picked]).float() / 255
        now = lap("gather", now)
        batch = augment(batch, views)
        now = lap("augment", now)
        batch = normalise(batch)
        now = lap("normalise", now)
        with autocast(device, dtype):
            logits = model(batch)
        optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(logits.float(), labels).backward()  # type: ignore[no-untyped-call]
        now = lap("forward and backward", now)
        optimiser.step()
        lap("optimiser", now)
    return {name: statistics.median(times[WARMUP_STEPS:]) for name, times in laps.items()}


def _speed(train: Callable[[int], None], batch_size: int, device: torch.device) -> Speed:
    def speed(steps: int) -> float:
        train(WARMUP_STEPS)
        return steps * batch_size / seconds_of(lambda: train(steps), device)

    return speed


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
