"""What the machine is, its two ceilings, and whether replayed steps end as usual ones do."""

import math
import os
import platform
import statistics
import time
from dataclasses import replace
from importlib import metadata
from typing import Any

import torch

from fedbus.device import pick_device, pick_dtype, processor_facts
from fedbus.models.build import place_model
from fedbus.models.start import start_state
from fedbus.models.state import State, get_state, set_state
from fedbus.training.cuda_graph import LEAST_STEPS, cuda_graphs
from fedbus.training.loop import train_round
from fedbus.training.optimiser import make_optimiser
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import GpuSettings, Plan, noise_rows
from simulations.benchmarks.throughput import seconds_of

PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn", "flwr", "ray")

MACHINE, GRAPHS = "machine", "graphs"
"""Names of the stages."""

NOISE = 3
"""How many times farther replayed steps may end from usual ones than these end from each other."""

COPIED, SIDE, TRIALS = 1 << 30, 8192, 5
"""Bytes copied and side of the matrices on a GPU, and how often each is timed."""


def measure_machine(plan: Plan, results: Results) -> None:
    """Describe the machine, and measure the rates that no training can exceed."""
    device = pick_device(plan.settings.device)
    results.add(MACHINE, describe_machine(plan.settings))
    small = device.type == "cpu"
    results.add(MACHINE, measure_ceilings(device, COPIED >> 8 if small else COPIED, SIDE >> 4 if small else SIDE))


def describe_machine(gpu_settings: GpuSettings) -> dict[str, Any]:
    """Describe device, precision and versions; None for a package that is not installed."""
    device = pick_device(gpu_settings.device)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "machine": {
            "cpu": str(processor_facts().get("cpu_name") or platform.machine()),
            "cores": os.cpu_count(),
            "memory": f"{memory / 2**30:.0f} GiB",
            "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        },
        "precision": str(pick_dtype(gpu_settings.precision, device)).removeprefix("torch."),
        "versions": {"python": platform.python_version(), "cuda": torch.version.cuda}
        | {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure_ceilings(device: torch.device, copied: int, side: int) -> dict[str, float]:
    """Measure a copy in the device's memory, counting bytes read and written, and a product of bfloat16 matrices."""
    source = torch.ones(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    generator = torch.Generator(device).manual_seed(0)
    left, right = (torch.randn(side, side, device=device, generator=generator).bfloat16() for _ in range(2))
    copies = [seconds_of(lambda: target.copy_(source), device) for _ in range(TRIALS)]
    products = [seconds_of(lambda: left @ right, device) for _ in range(TRIALS)]
    return {
        "copy_gb_per_s": 2 * copied / statistics.median(copies) / 1e9,
        "bfloat16_tflop_per_s": 2 * side**3 / statistics.median(products) / 1e12,
    }


def check_graphs(plan: Plan, results: Results) -> None:
    """Train with and without CUDA graphs, and compare the weights.

    The learning rate is constant and a power of two: the rounding to float32 doesn't change it. Some kernels add in an
    order that varies, so two usual trainings show what difference that makes.
    """
    size = min(8, plan.settings.batch_size)
    gpu_settings = replace(plan.settings, batch_size=size, schedule="constant", warmup=0.0, learning_rate=2.0**-11)
    start = start_state(gpu_settings.model, "none", 0)
    usual, seconds = _train(gpu_settings, start, graphs=False)
    again, _ = _train(gpu_settings, start, graphs=False)
    replayed, captured_seconds = _train(gpu_settings, start, graphs=True)
    difference, noise = (_distance(usual, other, start) for other in (replayed, again))
    results.add(
        GRAPHS,
        {
            "difference": difference,
            "noise": noise,
            "work": difference <= NOISE * noise,  # both are 0 where all kernels are deterministic
            "round_s": seconds,
            "round_with_graphs_s": captured_seconds,
        },
    )


def _train(gpu_settings: GpuSettings, start: State, *, graphs: bool) -> tuple[State, float]:
    device, settings = pick_device(gpu_settings.device), gpu_settings.settings
    model, steps = place_model(gpu_settings.model, device), LEAST_STEPS
    set_state(model, start)
    rows, optimiser = noise_rows(gpu_settings, 4 * gpu_settings.batch_size, device), make_optimiser(model, settings)
    started = time.perf_counter()
    with cuda_graphs(graphs):
        for number in (1, 2):
            started = time.perf_counter()
            train_round(model, rows, settings, seed=0, round_number=number, steps=steps, optimiser=optimiser)
    return get_state(model), time.perf_counter() - started


def _distance(one: State, other: State, start: State) -> float:
    """Return the distance of two models, relative to that of the first from the start."""
    apart, moved = (
        sum(float((one[key] - state[key]).double().square().sum()) for key in one) for state in (other, start)
    )
    return math.sqrt(apart / moved)


def graphs_work(results: Results) -> bool:
    """Whether CUDA graphs were found to change no result."""
    return bool(results.of(GRAPHS).get("work"))
