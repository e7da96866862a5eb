"""Measure training and federation on a GPU; needs only PyTorch, torchvision, timm, NumPy and scikit-learn.

    python -m simulations.benchmarks.gpu OUT.json [--device auto|cpu|cuda] [--image-size 224] [--batch-size 64] ...

Images are noise, drawn in memory. Measured in turns: the ceiling (one resident batch), our loop, and the plain loop
of `plain_loop.py` on the same images as files; then a federation of three sites as a bare loop in one process, with
about a second of training per site and round. Comparing the simulated federation with the bare loop needs all of
FedBUS's packages: if one is not installed, OUT.json names it.
"""

import fedbus.system.threads  # noqa: F401 -- decides how threads wait, before PyTorch is imported

# isort: split
import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from PIL import Image
from torch import nn

from fedbus.classes import CLASSES
from fedbus.device import pick_device, pick_dtype, processor_facts
from fedbus.models.build import build_model, place_model
from fedbus.models.start import start_state
from fedbus.models.state import get_state, set_state
from fedbus.system.files import write_json
from fedbus.training.balance import Balanced
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from fedbus.training.rows import TrainingRows, load_rows
from simulations.benchmarks.plain_loop import training_batches
from simulations.benchmarks.throughput import (
    ceiling_speed,
    compare_speeds,
    engine_speed,
    plain_speed,
    seconds_of,
    step_costs,
    take_turns,
)

if TYPE_CHECKING:
    from fedbus.settings.schema import Settings

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "flwr", "ray")

IMAGES_PER_LOOP = 512
"""Images for our loop and the plain one, as many as a small hospital's dataset has."""

SITES, ROUNDS, EPOCH_SECONDS = 3, 4, 1.0
"""Size of the bare federation; its first round is not counted."""

PHANTOMS = 180
"""Images of each site in the simulation."""


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


def noise_rows(gpu_settings: GpuSettings, count: int, device: torch.device, seed: int = 0) -> TrainingRows:
    """Draw `count` images of noise, their classes in turn."""
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (count, gpu_settings.image_size, gpu_settings.image_size), dtype=np.uint8)
    labels, nothing = np.arange(count, dtype=np.int64) % len(CLASSES), pixels[:0]
    balanced = Balanced(np.arange(count), labels, nothing, np.ones(len(CLASSES), dtype=np.float32))
    return load_rows(f"noise-{seed}", pixels, balanced, count, device)


def measure_speed(gpu_settings: GpuSettings, folder: Path, steps: int, turns: int) -> dict[str, Any]:
    """Measure the ceiling, our loop and the plain loop in turns.

    Args:
        gpu_settings: Model, sizes, precision.
        folder: Folder for the plain loop's images, written at their final size: large files would take longer to read.
        steps: Timed steps of each turn.
        turns: Turns of each loop.
    """
    device, settings = pick_device(gpu_settings.device), gpu_settings.settings
    rows, ours = noise_rows(gpu_settings, IMAGES_PER_LOOP, device), place_model(gpu_settings.model, device)
    write_images(rows, folder / "train")
    plain = build_model(gpu_settings.model).to(device)
    speeds = {
        "ceiling": ceiling_speed(place_model(gpu_settings.model, device), settings),
        "ours": engine_speed(ours, rows, settings),
        "plain": plain_speed(plain, training_batches(folder, settings, 0), settings),
    }
    found = take_turns(speeds, steps, turns)
    return {
        **compare_speeds(found),
        "step_ms": step_costs(ours, rows, settings, steps),
    }


def write_images(rows: TrainingRows, folder: Path) -> None:
    """Write `folder/CLASS/N.png` for every row."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for number, (row, label) in enumerate(zip(rows.index.tolist(), rows.labels.tolist(), strict=True)):
        Image.fromarray(rows.images[row, 0].cpu().numpy()).save(folder / CLASSES[label] / f"{number}.png")


def measure_bare(gpu_settings: GpuSettings, images_per_second: float) -> dict[str, Any]:
    """Measure FedAvg of three sites as a bare loop: the lower bound for a federation on this machine.

    Args:
        gpu_settings: The model and how it trains.
        images_per_second: Speed of our loop; decides how many images a local epoch of `EPOCH_SECONDS` reads.
    """
    device = pick_device(gpu_settings.device)
    count = max(1, round(images_per_second * EPOCH_SECONDS / gpu_settings.batch_size)) * gpu_settings.batch_size
    sites = [noise_rows(gpu_settings, count, device, seed) for seed in range(SITES)]
    model, shared = place_model(gpu_settings.model, device), start_state(gpu_settings.model, "none", 0)
    rounds, training = [], []
    for number in range(1, ROUNDS + 1):
        started, stepping = time.perf_counter(), 0.0
        mean = {key: torch.zeros_like(value) for key, value in shared.items()}
        for rows in sites:
            set_state(model, shared)
            stepping += seconds_of(partial(_train_site, model, rows, gpu_settings, number), device)
            for key, value in get_state(model).items():
                mean[key].add_(value, alpha=1 / SITES)
        shared = mean
        rounds.append(time.perf_counter() - started)
        training.append(stepping)
    return {
        "sites": SITES,
        "images_per_site": count,
        "round_s": statistics.median(rounds[1:]),
        "local_epoch_s": statistics.median(training[1:]) / SITES,
        "outside_training_s": statistics.median(a - b for a, b in zip(rounds[1:], training[1:], strict=True)),
    }


def _train_site(model: nn.Module, rows: TrainingRows, gpu_settings: GpuSettings, number: int) -> None:
    settings = gpu_settings.settings
    steps, optimiser = rows.steps_per_round(settings), make_optimiser(model, settings)
    train_round(model, rows, settings, seed=0, round_number=number, steps=steps, optimiser=optimiser)


def measure_federation(gpu_settings: GpuSettings, images_per_second: float, folder: Path) -> dict[str, Any]:
    """Compare the simulated federation with the bare loop, on phantoms, with local epochs of about `EPOCH_SECONDS`.

    Raises:
        ImportError: If Flower, Ray or another package that FedBUS needs is not installed.
    """
    from simulations.benchmarks.case import make_case
    from simulations.benchmarks.federation import measure as measure_case

    given = {key.replace("_", "-"): value for key, value in vars(gpu_settings).items()}
    passes = min(100.0, max(1.0, images_per_second * EPOCH_SECONDS / PHANTOMS))
    given |= {
        "weights": "none",
        "phantom-images": PHANTOMS,
        "rounds": ROUNDS,
        "local-epochs": passes,
        "arms": ["fedavg"],
    }
    return measure_case(make_case(folder, given), folder)


def where_installed(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what a part measures, or "missing" with the package that is not installed."""
    try:
        return part()
    except ImportError as error:
        return {"missing": str(error)}


def describe_machine(gpu_settings: GpuSettings) -> dict[str, Any]:
    """Describe device, precision and versions; None for a package that is not installed."""
    device = pick_device(gpu_settings.device)
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    return {
        "device": gpu or str(processor_facts().get("cpu_name") or platform.machine()),
        "threads": torch.get_num_threads(),
        "precision": str(pick_dtype(gpu_settings.precision, device)).removeprefix("torch."),
        "versions": {"python": platform.python_version(), "cuda": torch.version.cuda}
        | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure(gpu_settings: GpuSettings, out: Path, steps: int, turns: int) -> None:
    """Measure everything in one process, and write OUT.json after each part, so that a later failure loses nothing."""
    found = describe_machine(gpu_settings) | {"settings": vars(gpu_settings) | {"steps": steps, "turns": turns}}
    with tempfile.TemporaryDirectory() as folder:
        found |= measure_speed(gpu_settings, Path(folder) / "images", steps, turns)
        write_json(out, found)
        pace = found["images_per_second"]["ours"]
        found["bare_federation"] = measure_bare(gpu_settings, pace)
        write_json(out, found)
        federation = partial(measure_federation, gpu_settings, pace, Path(folder) / "federation")
        found["federation"] = where_installed(federation)
        write_json(out, found)


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write OUT.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--model", default=GpuSettings.model)
    parser.add_argument("--image-size", type=int, default=GpuSettings.image_size)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=50, help="timed steps of each turn")
    parser.add_argument("--turns", type=int, default=5)
    given = vars(parser.parse_args(words))
    out, steps, turns = given.pop("out"), given.pop("steps"), given.pop("turns")
    measure(GpuSettings(**given), out, steps, turns)


if __name__ == "__main__":
    main()
