"""Images per second of our loop, with and without CUDA graphs, beside its ceiling and the steps of timm and PyTorch."""

import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from fedbus.classes import CLASSES
from fedbus.device import pick_device
from fedbus.models.build import build_model, place_model
from fedbus.training.cuda_graph import LEAST_STEPS, cuda_graphs
from fedbus.training.rows import TrainingRows
from simulations.benchmarks.gpu.machine import graphs_work
from simulations.benchmarks.gpu.results import Results
from simulations.benchmarks.gpu.settings import IMAGES, GpuSettings, Plan, noise_rows
from simulations.benchmarks.plain_loop import training_batches
from simulations.benchmarks.throughput import (
    Speed,
    ceiling_speed,
    engine_speed,
    median_ratio,
    plain_speed,
    seconds_of,
    step_costs,
    take_turns,
    timm_speed,
)

SPEED, MODELS, COMPILE, PLAIN = "speed", "models", "compile", "plain"
"""Names of the stages."""

TURN_STEPS = 40
"""Steps of a turn at least; recording a CUDA graph takes part of the first ones."""


def measure_speed(plan: Plan, results: Results) -> None:
    """Measure the model at each batch size."""
    for batch_size in plan.batch_sizes:
        _measure_case(plan, results, SPEED, plan.case(plan.settings.model, batch_size))
    if "step_ms" not in results.of(SPEED):
        gpu_settings = plan.case(plan.settings.model, plan.batch_sizes[0])
        device = pick_device(gpu_settings.device)
        model, rows = place_model(gpu_settings.model, device), noise_rows(gpu_settings, IMAGES, device)
        results.add(SPEED, {"step_ms": step_costs(model, rows, gpu_settings.settings, _steps(plan, gpu_settings))})


def measure_models(plan: Plan, results: Results) -> None:
    """Measure the further models."""
    for model in plan.models:
        _measure_case(plan, results, MODELS, plan.case(model, plan.batch_sizes[0]))


def _measure_case(plan: Plan, results: Results, stage: str, gpu_settings: GpuSettings) -> None:
    case = {"model": gpu_settings.model, "batch_size": gpu_settings.batch_size}
    if any(case.items() <= row.items() for row in results.of(stage).get("rows", [])):
        return
    device, settings = pick_device(gpu_settings.device), gpu_settings.settings
    rows, graphs = noise_rows(gpu_settings, IMAGES, device), graphs_work(results)
    memory = {"peak_mb": _peak_megabytes(gpu_settings, rows, graphs=False)}
    if graphs:
        memory["peak_with_graphs_mb"] = _peak_megabytes(gpu_settings, rows, graphs=True)

    def placed() -> torch.nn.Module:
        return place_model(gpu_settings.model, device)

    speeds = {
        "ceiling": with_graphs(ceiling_speed(placed(), settings), False),
        "timm": timm_speed(placed(), settings),
        "ours": with_graphs(engine_speed(placed(), rows, settings), False),
    }
    if graphs:
        speeds["ceiling_with_graphs"] = with_graphs(ceiling_speed(placed(), settings), True)
        speeds["ours_with_graphs"] = with_graphs(engine_speed(placed(), rows, settings), True)
    found = take_turns(speeds, _steps(plan, gpu_settings), plan.turns)
    results.add_row(stage, case | _compare(found) | memory)


def _compare(found: dict[str, list[float]]) -> dict[str, Any]:
    row: dict[str, Any] = {f"{name}_images_per_s": statistics.median(each) for name, each in found.items()}
    row |= {
        "engine_over_ceiling": median_ratio(found["ours"], found["ceiling"]),
        "engine_over_timm": median_ratio(found["ours"], found["timm"]),
    }
    if "ours_with_graphs" in found:
        row |= {
            "graphs_over_ceiling": median_ratio(found["ours_with_graphs"], found["ceiling_with_graphs"]),
            "graphs_over_timm": median_ratio(found["ours_with_graphs"], found["timm"]),
            "graphs_over_engine": median_ratio(found["ours_with_graphs"], found["ours"]),
        }
    return row


def _steps(plan: Plan, gpu_settings: GpuSettings) -> int:
    return max(min(TURN_STEPS, plan.images), plan.images // gpu_settings.batch_size)


def with_graphs(speed: Speed, enabled: bool) -> Speed:
    """Let a loop use CUDA graphs, or not."""

    def measured(steps: int) -> float:
        with cuda_graphs(enabled):
            return speed(steps)

    return measured


def _peak_megabytes(gpu_settings: GpuSettings, rows: TrainingRows, *, graphs: bool) -> float | None:
    """Return the peak of the memory that one training takes on the GPU, images included; None on the CPU."""
    device = rows.images.device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    with cuda_graphs(graphs):
        engine_speed(place_model(gpu_settings.model, device), rows, gpu_settings.settings)(LEAST_STEPS)
    return peak_megabytes(device)


def peak_megabytes(device: torch.device) -> float | None:
    """Return the peak of the memory that this process had reserved on the GPU; None on the CPU."""
    return torch.cuda.max_memory_reserved(device) / 1e6 if device.type == "cuda" else None


def measure_compile(plan: Plan, results: Results) -> None:
    """Measure what `torch.compile` adds to the ceiling, with and without CUDA graphs, and how long it takes first."""
    gpu_settings = plan.case(plan.settings.model, plan.batch_sizes[0])
    device, settings = pick_device(gpu_settings.device), gpu_settings.settings
    backend = "inductor" if device.type == "cuda" else "eager"  # inductor needs a compiler, which a CPU may lack
    compiled = torch.compile(place_model(gpu_settings.model, device), backend=backend)
    fast = ceiling_speed(compiled, settings)  # type: ignore[arg-type]
    seconds = seconds_of(lambda: fast(1), device)
    results.add(COMPILE, {"model": gpu_settings.model, "batch_size": gpu_settings.batch_size, "compile_s": seconds})
    ceiling = ceiling_speed(place_model(gpu_settings.model, device), settings)
    speeds = {"ceiling": with_graphs(ceiling, False), "compiled": with_graphs(fast, False)}
    if graphs_work(results):
        speeds["compiled_with_graphs"] = with_graphs(fast, True)
    found = take_turns(speeds, _steps(plan, gpu_settings), plan.turns)
    results.add(
        COMPILE,
        {f"{name}_images_per_s": statistics.median(each) for name, each in found.items()}
        | {f"{name}_over_ceiling": median_ratio(found[name], found["ceiling"]) for name in list(found)[1:]},
    )


def measure_plain(plan: Plan, results: Results) -> None:
    """Measure our loop over a plain one: image folders, torchvision, a DataLoader, float32."""
    gpu_settings = plan.case(plan.settings.model, plan.batch_sizes[0])
    device, settings = pick_device(gpu_settings.device), gpu_settings.settings
    rows, plain = noise_rows(gpu_settings, IMAGES, device), build_model(gpu_settings.model).to(device)
    with tempfile.TemporaryDirectory() as folder:
        write_images(rows, Path(folder) / "train")
        speeds = {
            "ours": engine_speed(place_model(gpu_settings.model, device), rows, settings),
            "plain": plain_speed(plain, training_batches(Path(folder), settings, 0), settings),
        }
        found = take_turns(speeds, _steps(plan, gpu_settings), plan.turns)
    results.add(
        PLAIN,
        {
            "engine_over_plain": median_ratio(found["ours"], found["plain"]),
            "plain_images_per_s": statistics.median(found["plain"]),
        },
    )


def write_images(rows: TrainingRows, folder: Path) -> None:
    """Write `folder/CLASS/N.png` for every row, at its final size: large files would take longer to read."""
    for label in CLASSES:
        (folder / label).mkdir(parents=True)
    for number, (row, label) in enumerate(zip(rows.index.tolist(), rows.labels.tolist(), strict=True)):
        Image.fromarray(rows.images[row, 0].cpu().numpy()).save(folder / CLASSES[label] / f"{number}.png")
