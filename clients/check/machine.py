"""Checks of a site's machine: disk, device, memory, and the time that a round would take."""

import math
import os
import shutil
from collections.abc import Callable

import torch

from clients.check.results import CheckResult, Verdict, count
from clients.check.training_probe import ProbeResult, estimate_memory, free_memory, run_probe
from clients.site.folder import SiteFolder
from fedbus.device import pick_device, pick_dtype
from fedbus.errors import SettingsError
from fedbus.models.build import place_model
from fedbus.settings.schema import Settings
from fedbus.sites.pixel_cache import stored_bytes

DISK_RESERVE, MEMORY_SHARE, ROUND_SHARE = 3, 0.75, 0.5
"""Limits of a warning: less free disk than three times the need, more than these shares of memory and round time."""

_FREE_DISK = "Free some disk space, or make the site's folder on a larger disk."
_NOT_TRIED = "not tried, because training does not run here"


def check_device(site: SiteFolder, settings: Settings) -> tuple[torch.device | None, CheckResult]:
    """Check the device of site.toml.

    Returns:
        The device, None if the machine does not have it, and the result.
    """
    setting = site.settings.device
    try:
        device = pick_device(setting)
    except SettingsError:
        remedy = 'Install the GPU\'s driver, or set device = "auto" in site.toml.'
        return None, CheckResult("Device", "fail", "device = cuda, but PyTorch finds no GPU", remedy)
    dtype = str(pick_dtype(settings.precision, device)).removeprefix("torch.")
    if device.type == "cuda":
        return device, CheckResult("Device", "pass", f"{torch.cuda.get_device_name(device)}, {dtype}")
    found = f"CPU, {count(os.cpu_count() or 1, 'core')}, {dtype}"
    # The driver's program is there, but PyTorch sees no GPU: most often their versions do not match.
    if setting == "auto" and shutil.which("nvidia-smi"):
        remedy = "Install a driver and a PyTorch that match; `nvidia-smi` shows the driver's version."
        return device, CheckResult(
            "Device", "warn", f"{found}; the machine has a GPU that PyTorch does not see", remedy
        )
    return device, CheckResult("Device", "pass", found)


def check_disk(site: SiteFolder, images: int, settings: Settings, model: int) -> CheckResult:
    """Compare the free disk space with the decoded images and one model for each arm and seed.

    Args:
        site: The folder on the disk.
        images: Number of images in the dataset.
        settings: The run's settings; image size, arms and seeds count.
        model: Size of one model in bytes.
    """
    need = stored_bytes(images, settings.image_size) + model * max(1, len(settings.federated_arms)) * len(
        settings.seeds
    )
    free = shutil.disk_usage(site.path).free
    found = f"needs {format_bytes(need)} for images and models, {format_bytes(free)} available"
    if free < need:
        return CheckResult("Disk", "fail", found, _FREE_DISK)
    if free < DISK_RESERVE * need:
        return CheckResult("Disk", "warn", found, _FREE_DISK)
    return CheckResult("Disk", "pass", found)


def check_training(
    settings: Settings,
    device: torch.device | None,
    steps: int | None,
    advance: Callable[[int], object] = lambda _: None,
) -> list[CheckResult]:
    """Check memory, training step and round, with a few training steps on noise.

    Args:
        settings: The run's settings.
        device: The device to train on; None if there is none.
        steps: Optimiser steps of a round at this site; None if the images could not be split.
        advance: Called after every step.
    """
    what = f"{settings.model}, {settings.image_size} pixels, batches of {settings.batch_size}"
    memory, step, full_round = (
        CheckResult(topic, "warn", _NOT_TRIED) for topic in ("Memory", "Training step", "Round")
    )
    if device is None:
        return [memory, step, full_round]
    try:
        model = place_model(settings.model, device)
        need, free = estimate_memory(model, settings, device), free_memory(device)
        if need > free:
            return [_memory(need, free, device), step, full_round]
        probe = run_probe(model, settings, device, advance)
    except Exception as error:  # any: timm's models and PyTorch's allocators have exceptions of their own
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            return [_memory(None, free_memory(device), device), step, full_round]
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        remedy = "Tell the coordinator: training with these settings does not work here."
        return [memory, CheckResult("Training step", "fail", f"{what}: {why}", remedy), full_round]
    step = CheckResult("Training step", "pass", f"{format_seconds(probe.step_seconds)}: {what}")
    return [_memory(probe.memory, probe.free, device), step, _round(probe, steps, settings)]


def _memory(need: int | None, free: int, device: torch.device) -> CheckResult:
    available = f"{format_bytes(free)} {'of GPU memory ' if device.type == 'cuda' else ''}available"
    remedy = "Ask the coordinator for a smaller batch-size, close other programs, or use a machine with more memory."
    if need is None:
        return CheckResult("Memory", "fail", f"training needs more than the {available}", remedy)
    found = f"training needs {format_bytes(need)}, {available}"
    if need > free:
        return CheckResult("Memory", "fail", found, remedy)
    verdict: Verdict = "warn" if need > MEMORY_SHARE * free else "pass"
    return CheckResult("Memory", verdict, found, remedy if verdict == "warn" else "")


def _round(probe: ProbeResult, steps: int | None, settings: Settings) -> CheckResult:
    if steps is None:
        found = "unknown until the images can be read and split"
        return CheckResult("Round", "warn", found, "Fix the images first.")
    seconds = steps * probe.step_seconds
    limit = settings.round_timeout
    found = f"about {format_seconds(seconds)} for {count(steps, 'step')}; the hub waits {format_seconds(limit)}"
    remedy = "Ask the coordinator for a longer round-timeout or fewer local-epochs, or train on a GPU."
    if seconds > limit:
        return CheckResult("Round", "fail", found, remedy)
    if seconds > ROUND_SHARE * limit:
        return CheckResult("Round", "warn", found, remedy)
    return CheckResult("Round", "pass", found)


def format_bytes(number: int) -> str:
    """Format bytes in the unit that leaves at most four digits: `94 MB`, `1.2 GB`; powers of 1000."""
    if number < 1_000_000:
        return f"{math.ceil(number / 1000)} kB"
    if number < 1_000_000_000:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 1e12 else f"{number / 1e12:.1f} TB"


def format_seconds(seconds: float) -> str:
    """Format a duration in one unit: `0.42 s`, `35 s`, `12 min`, `3.5 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
