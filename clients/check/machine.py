"""Findings on a site's machine: disk, device, memory, and how long a round would train here."""

import math
import os
import shutil
from collections.abc import Callable

import torch

from clients.check.findings import Finding, Verdict, count
from clients.check.training_probe import Trial, estimate_memory, free_memory, run_trial
from clients.site.folder import SiteFolder
from fedbus.device import pick_device, pick_dtype
from fedbus.errors import SettingsError
from fedbus.images.fingerprint import HASH_BYTES
from fedbus.models.build import place_model
from fedbus.settings.schema import Settings

DISK_RESERVE, MEMORY_SHARE, ROUND_SHARE = 3, 0.75, 0.5
"""Less free disk than three times the need is a warning; so is more than these shares of memory and round time."""

_FREE_DISK = "Free some disk space, or make the site's folder on a larger disk."
_NOT_TRIED = "not tried, because training does not run here"


def find_device(site: SiteFolder, settings: Settings) -> tuple[torch.device | None, Finding]:
    """The device that site.toml asks for, none if it is not there, and the finding on it."""
    setting = site.settings.device
    try:
        device = pick_device(setting)
    except SettingsError:
        remedy = 'Install the GPU\'s driver, or set device = "auto" in site.toml.'
        return None, Finding("Device", "fail", "device = cuda, and PyTorch sees no GPU", remedy)
    arithmetic = str(pick_dtype(settings.precision, device)).removeprefix("torch.")
    if device.type == "cuda":
        return device, Finding("Device", "pass", f"{torch.cuda.get_device_name(device)}, {arithmetic}")
    found = f"processor, {count(os.cpu_count() or 1, 'core')}, {arithmetic}"
    if setting == "auto" and shutil.which("nvidia-smi"):
        remedy = "Install a driver and a PyTorch that fit each other; `nvidia-smi` says which driver there is."
        return device, Finding("Device", "warn", f"{found}; the machine has a GPU that PyTorch does not see", remedy)
    return device, Finding("Device", "pass", found)


def disk_finding(site: SiteFolder, images: int, settings: Settings, model: int) -> Finding:
    """Compare free disk with the decoded pictures and one kept model for each run's arm and seed.

    Args:
        site: on whose disk.
        images: of the archive.
        settings: image size, arms, seeds.
        model: bytes of one.
    """
    pictures = images * (settings.image_size**2 + 2 * HASH_BYTES)
    need = pictures + model * max(1, len(settings.federated_arms)) * len(settings.seeds)
    free = shutil.disk_usage(site.path).free
    found = f"{spell_bytes(free)} free, {spell_bytes(need)} needed for pictures and models"
    if free < need:
        return Finding("Disk", "fail", found, _FREE_DISK)
    return Finding("Disk", "warn", found, _FREE_DISK) if free < DISK_RESERVE * need else Finding("Disk", "pass", found)


def training_findings(
    settings: Settings,
    device: torch.device | None,
    steps: int | None,
    advance: Callable[[int], object] = lambda _: None,
) -> list[Finding]:
    """Try the study's training: findings on memory, training step and round.

    Args:
        settings: the settings.
        device: where; None if there is none.
        steps: optimiser steps of a round at this site; None if the images can't tell.
        advance: told of every step.
    """
    what = f"{settings.model}, {settings.image_size} pixels, batches of {settings.batch_size}"
    memory, step, whole = (Finding(topic, "warn", _NOT_TRIED) for topic in ("Memory", "Training step", "Round"))
    if device is None:
        return [memory, step, whole]
    try:
        model = place_model(settings.model, device)
        need, free = estimate_memory(model, settings, device), free_memory(device)
        if need > free:
            return [_memory(need, free, device), step, whole]
        trial = run_trial(model, settings, device, advance)
    except Exception as error:  # timm's models and PyTorch's allocators each raise their own
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            return [_memory(None, free_memory(device), device), step, whole]
        why = (str(error) or type(error).__name__).splitlines()[0][:200]
        remedy = "Tell the coordinator: this study can't train here."
        return [memory, Finding("Training step", "fail", f"{what}: {why}", remedy), whole]
    step = Finding("Training step", "pass", f"{spell_seconds(trial.step_seconds)}: {what}")
    return [_memory(trial.memory, trial.free, device), step, _round(trial, steps, settings)]


def _memory(need: int | None, free: int, device: torch.device) -> Finding:
    whose = "of the GPU's memory " if device.type == "cuda" else ""
    more = "Ask the coordinator for a smaller batch-size, end other programs, or take a machine with more memory."
    if need is None or need > free:
        wanted = "more" if need is None else f"about {spell_bytes(need)}"
        return Finding("Memory", "fail", f"training needs {wanted}; {spell_bytes(free)} {whose}can be had", more)
    verdict: Verdict = "warn" if need > MEMORY_SHARE * free else "pass"
    found = f"training takes {spell_bytes(need)} of {spell_bytes(free)} {whose}that can be had"
    return Finding("Memory", verdict, found, more if verdict == "warn" else "")


def _round(trial: Trial, steps: int | None, settings: Settings) -> Finding:
    if steps is None:
        return Finding("Round", "warn", "not known before the images can be read and parted", "Mend the images first.")
    seconds = steps * trial.step_seconds
    limit = settings.round_timeout
    found = f"about {spell_seconds(seconds)} for {count(steps, 'step')}; the hub waits {spell_seconds(limit)}"
    remedy = "Ask the coordinator for a longer round-timeout or fewer local-epochs, or train on a GPU."
    if seconds > limit:
        return Finding("Round", "fail", found, remedy)
    return Finding("Round", "warn", found, remedy) if seconds > ROUND_SHARE * limit else Finding("Round", "pass", found)


def spell_bytes(number: int) -> str:
    """Spell bytes in the unit that leaves at most four digits: `94 MB`, `1.2 GB`; powers of 1000."""
    if number < 1_000_000:
        return f"{math.ceil(number / 1000)} kB"
    if number < 1_000_000_000:
        return f"{number / 1e6:.0f} MB"
    return f"{number / 1e9:.1f} GB" if number < 1e12 else f"{number / 1e12:.1f} TB"


def spell_seconds(seconds: float) -> str:
    """Spell a duration: `0.42 s`, `35 s`, `12 min`, `3.5 h`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
