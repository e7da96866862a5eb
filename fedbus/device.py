"""The device and the precision of a run."""

import time
from contextlib import AbstractContextManager
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F

from fedbus.errors import SettingsError
from fedbus.system.allocator import keep_freed_memory

TRIALS = 4
"""Timed convolutions per dtype; the first one also selects kernels, so the fastest counts."""


def pick_device(setting: str) -> torch.device:
    """Return the device for `auto`, `cpu` or `cuda`, and set up this process for it; `auto` is a GPU if there is one.

    Raises:
        SettingsError: If `cuda` was requested and there is no GPU.
    """
    if setting == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device=cuda, but PyTorch finds no GPU on this machine.", "Use --set device=auto.")
    torch.backends.cudnn.deterministic = True  # the same seed gives the same result
    torch.backends.cudnn.benchmark = False  # a timed choice of kernels would differ from run to run
    use_gpu = setting == "cuda" or (setting == "auto" and torch.cuda.is_available())
    if not use_gpu:
        keep_freed_memory()
    return torch.device("cuda" if use_gpu else "cpu")


def pick_dtype(setting: str, device: torch.device) -> torch.dtype:
    """Return the dtype of matrix products for `auto`, `float32` or `bfloat16`.

    `auto` is bfloat16 where the hardware multiplies it natively: a GPU reports this, a CPU is measured.
    """
    if setting == "auto":
        cuda = device.type == "cuda"
        native = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else bfloat16_is_faster()
        return torch.bfloat16 if native else torch.float32
    return torch.bfloat16 if setting == "bfloat16" else torch.float32


@lru_cache(maxsize=1)
def bfloat16_is_faster() -> bool:
    """Return whether this CPU trains a convolution faster in bfloat16 than in float32, measured once per process.

    Every process of a machine must get the same answer, or arms that ran in different processes could not be compared.
    Therefore a single thread is measured by its own CPU time, to which other processes add nothing, and the fastest of
    several trials counts for each dtype. The margin is wide: native bfloat16 is 1.4 to 2 times as fast as float32,
    emulated bfloat16 2.5 to 12 times as slow.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trials = [(_convolution_seconds(torch.float32), _convolution_seconds(torch.bfloat16)) for _ in range(TRIALS)]
    finally:
        torch.set_num_threads(threads)
    single, half = (min(times) for times in zip(*trials, strict=True))
    return bool(half < single)


def _convolution_seconds(dtype: torch.dtype) -> float:
    """CPU time of a forward and a backward pass; the inputs are constants, to leave the global random state alone."""
    with torch.inference_mode(False), torch.enable_grad():
        images = torch.full((4, 64, 24, 24), 0.5, dtype=dtype).to(memory_format=torch.channels_last)
        weights = torch.full((64, 64, 3, 3), 0.01, dtype=dtype).to(memory_format=torch.channels_last)
        images.requires_grad_(), weights.requires_grad_()
        started = time.thread_time()
        F.conv2d(images, weights, padding=1).sum().backward()  # type: ignore[no-untyped-call]
        return time.thread_time() - started


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Return the context of a forward pass in mixed precision; with float32 it changes nothing."""
    return torch.autocast(device.type, dtype=dtype, enabled=dtype != torch.float32)


def processor_facts() -> dict[str, Any]:
    """Return what PyTorch knows about the CPU; empty for versions of PyTorch that cannot tell."""
    facts: dict[str, Any] = dict(getattr(torch.cpu, "get_capabilities", dict)())
    return facts
